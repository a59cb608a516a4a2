/**
 * A folder that is ready for an attempt before there is one, and again after one that left it as it was: a file system pays more for
 * files made and removed than for files that stay (docs/decisions/0011-folders-that-stay.md).
 */
import {
  closeSync,
  constants as fs,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { limits } from '../src/job/limits.ts';
import { SCRIPT_NAME } from '../src/job/names.ts';
import { holdsOnly } from './folder-names.ts';
import { removeTree } from './remove-tree.ts';
import { pathsIn } from './run-paths.ts';

export interface SpareFolder {
  path: string;
  /** Both of `performance.now()`. */
  madeAtMs: number;
  restsSinceMs: number;
  /** Two changes within so many milliseconds can have one time: of the file system, which may keep whole seconds only. */
  tickMs: number;
  /** Of its two folders; see traitsOf. */
  traits: string;
}

/** Synchronous, as all here: each of these costs less than its way through the thread pool. */
export function makeSpareFolder(path: string): SpareFolder {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return withScriptsPart(path);
}

/** New folders in the place of those that a script was given, and of whatever it left there. Throws the system's errors. */
export async function renewScriptsPart(path: string): Promise<SpareFolder> {
  const { home, tmp, scriptPath } = pathsIn(path);
  const areFolders = [home, tmp].every((folder) => lstatSync(folder, { throwIfNoEntry: false })?.isDirectory());
  if (areFolders && holdsOnly(home, [SCRIPT_NAME]) && holdsOnly(tmp, [])) {
    unlinkSync(scriptPath);
    // Through the pool: a file system that tells its disk of each block it frees waits for the disk.
    for (const folder of [home, tmp]) await rmdir(folder);
  } else for (const folder of [home, tmp]) await removeTree(folder);
  return withScriptsPart(path);
}

function withScriptsPart(path: string): SpareFolder {
  const { home, tmp, scriptPath } = pathsIn(path);
  for (const folder of [home, tmp]) mkdirSync(folder, { mode: 0o700 });
  writeFileSync(scriptPath, '', { mode: 0o755, flag: 'wx' });
  const isCoarse = lstatSync(home, { bigint: true }).ctimeNs % 1_000_000_000n === 0n;
  const nowMs = performance.now();
  const tickMs = isCoarse ? limits.coarseFileClockTickMs : limits.fileClockTickMs;
  return { path, madeAtMs: nowMs, restsSinceMs: nowMs, tickMs, traits: foldersOf(path) };
}

/** Whether it is still there as it was laid aside: others may write where it lies, and machines tidy up. */
export function isStillAsMade({ path, traits }: SpareFolder): boolean {
  try {
    return foldersOf(path) === traits;
  } catch {
    return false;
  }
}

/** In place: a file that is there stays the file it is, and keeps its mode. */
export function rewrite(path: string, content: Buffer, mode: number): void {
  const file = openSync(path, fs.O_WRONLY | fs.O_CREAT | fs.O_NOFOLLOW, mode);
  try {
    writeFileSync(file, content);
    ftruncateSync(file, content.length);
  } finally {
    closeSync(file);
  }
}

/** What changes with content, rights, owner or name of anything that a script is given; once all of it is in its place. Throws the system's errors. */
export function traitsOf(path: string): string {
  return traitsWith(path, foldersOf(path));
}

function traitsWith(path: string, folders: string): string {
  return [ownTraitsOf(path), folders, traitOf(pathsIn(path).scriptPath)].join('\n');
}

/** As traitsOf, of what is the worker's alone. */
export function ownTraitsOf(path: string): string {
  const { mode, uid, gid } = lstatSync(path);
  return `${mode} ${uid} ${gid}\n${traitOf(pathsIn(path).notePath)}`;
}

/**
 * Whether a later script would find at `path` what it finds in a new folder, but for what `rewrite` replaces; `given`: its traits before the
 * script started. False as well where a change could have gone unseen, for the time was that of the making.
 */
export function isAsGiven(made: SpareFolder, path: string, given: string, usedAtMs: number): boolean {
  if (usedAtMs - made.madeAtMs < made.tickMs) return false;
  const { home, tmp } = pathsIn(path);
  try {
    const folders = foldersOf(path);
    if (folders !== made.traits || traitsWith(path, folders) !== given) return false;
    // By the names too: not every file system keeps these times. They are few, or the folders would not look as they were.
    return readdirSync(home).join() === SCRIPT_NAME && readdirSync(tmp).length === 0;
  } catch {
    return false;
  }
}

/** As isAsGiven, of what is the worker's alone; `given`: its ownTraitsOf. */
export function isOwnAsGiven(path: string, given: string): boolean {
  try {
    return ownTraitsOf(path) === given;
  } catch {
    return false;
  }
}

/** The log of the former attempt goes, in a folder that holds nothing that it must not. False where it may not serve again. */
export function emptyLog(path: string): boolean {
  const { spoolPath } = pathsIn(path);
  try {
    if (!holdsOnly(path, NAMES)) return false;
    const spool = lstatSync(spoolPath);
    // Under no other name too: what is written to it would be seen there.
    if (!spool.isFile() || spool.nlink !== 1 || (spool.mode & 0o777) !== 0o600 || spool.uid !== process.geteuid?.()) return false;
    // Giving back the room of a long log takes a while.
    if (spool.size > limits.logEntryBytesMax) return false;
    if (spool.size > 0) truncateSync(spoolPath);
    return true;
  } catch {
    return false;
  }
}

/** All that lies in one whose script has run. */
const NAMES = ['home', 'tmp', 'log.ndjson', 'attempt.json'];

function foldersOf(path: string): string {
  const { home, tmp } = pathsIn(path);
  return `${traitOf(home)}\n${traitOf(tmp)}`;
}

function traitOf(path: string): string {
  const { ino, mode, uid, gid, nlink, size, ctimeNs } = lstatSync(path, { bigint: true });
  return [ino, mode, uid, gid, nlink, size, ctimeNs].join(' ');
}
