/**
 * A folder that is ready for an attempt before there is one, and again after one that left it as it was: a file system pays more for
 * files made and removed than for files that stay (docs/decisions/0011-folders-that-stay.md).
 */
import { closeSync, constants as fs, ftruncateSync, lstatSync, mkdirSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { limits } from '../src/job/limits.ts';
import { SCRIPT_NAME } from '../src/job/names.ts';
import { holdsOnly } from './folder-names.ts';
import { pathsIn } from './run-paths.ts';

export interface SpareFolder {
  path: string;
  /** Both of `performance.now()`. */
  madeAtMs: number;
  restsSinceMs: number;
  /** What changes when anything in the two folders, or of their rights, does. */
  changed: { home: bigint; tmp: bigint };
  scriptMode: number;
}

/** Synchronous, as all here: each of these costs less than its way through the thread pool. */
export function makeSpareFolder(path: string): SpareFolder {
  const { home, tmp, scriptPath } = pathsIn(path);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  for (const folder of [home, tmp]) mkdirSync(folder, { mode: 0o700 });
  writeFileSync(scriptPath, '', { mode: 0o755, flag: 'wx' });
  const changed = { home: changeOf(home), tmp: changeOf(tmp) };
  const nowMs = performance.now();
  return { path, madeAtMs: nowMs, restsSinceMs: nowMs, changed, scriptMode: lstatSync(scriptPath).mode };
}

/** In place: a file that is there stays the file it is, and keeps its mode. */
export function rewrite(path: string, content: Buffer, mode: number): void {
  const file = openSync(path, fs.O_WRONLY | fs.O_CREAT | fs.O_NOFOLLOW, mode);
  try {
    for (let done = 0; done < content.length; ) done += writeSync(file, content, done, content.length - done, done);
    ftruncateSync(file, content.length);
  } finally {
    closeSync(file);
  }
}

/**
 * Whether a later script would find at `path` what it finds in a new folder, but for what `rewrite` replaces. Then the log's file is
 * emptied too. False as well where a change could have gone unseen: within one tick of the file system's clock after the making.
 */
export function isAsMade(made: SpareFolder, path: string, usedAtMs: number): boolean {
  if (usedAtMs - made.madeAtMs < limits.fileClockTickMs) return false;
  const { home, tmp, scriptPath, notePath, spoolPath } = pathsIn(path);
  try {
    if (changeOf(home) !== made.changed.home || changeOf(tmp) !== made.changed.tmp) return false;
    // By the names too: not every file system keeps these times.
    if (!holdsOnly(path, NAMES) || !holdsOnly(home, [SCRIPT_NAME]) || !holdsOnly(tmp, [])) return false;
    if (![scriptPath, notePath, spoolPath].every(isOwnFile) || lstatSync(scriptPath).mode !== made.scriptMode) return false;
    const { size } = lstatSync(spoolPath);
    // Giving back the room of a long log takes a while.
    if (size > limits.logEntryBytesMax) return false;
    if (size > 0) truncateSync(spoolPath);
    return true;
  } catch {
    return false;
  }
}

/** All that lies in one whose script has run. */
const NAMES = ['home', 'tmp', 'log.ndjson', 'attempt.json'];

function changeOf(path: string): bigint {
  return lstatSync(path, { bigint: true }).ctimeNs;
}

/** Under no other name too: what is written to it would be seen there. */
function isOwnFile(path: string): boolean {
  const found = lstatSync(path);
  return found.isFile() && found.nlink === 1;
}
