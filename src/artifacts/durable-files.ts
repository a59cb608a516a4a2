/** Files below one folder that appear whole and durable, or not at all: temporary name, sync, rename, sync of the folder. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { type FileHandle, open, readdir, rename, rm, rmdir, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { limits } from '../job/limits.ts';
import { eachAtOnce } from '../service/each.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { makeFolder } from '../service/make-folder.ts';
import { createDurableFolders } from './durable-folders.ts';
import { createDurableNames, type FoundFile } from './durable-names.ts';
import { createFolderSync } from './folder-sync.ts';
import { createWritingTogether } from './writing-together.ts';

export interface DurableFiles {
  /**
   * Fills a temporary file and puts it at `key`, replacing a former one. What fills it throws comes through unchanged. The name is
   * durable too when it resolves; with `later`, once `settle` has resolved for it.
   */
  write(key: string, content: Content, later?: Unsettled): Promise<void>;
  /** As `write`, of content whose key is known once it is there: `fill` resolves with it, or with null for content that need not stay. */
  writeUnnamed(fill: (file: FileHandle) => Promise<string | null>, later?: Unsettled): Promise<void>;
  /** Makes folders for files to come, all in one; where there is no room for them each is made when it is needed. */
  prepare(parent: string, names: readonly string[]): Promise<void>;
  /** Makes the name of a file durable that was found there: whoever put it there may not have come so far. */
  confirm(key: string, found: FoundFile, later?: Unsettled): Promise<void>;
  /** Syncs each folder once, however many of its files were written. Where it fails they are to be settled still. */
  settle(later: Unsettled): Promise<void>;
  /** Removes a file, and the folders that it leaves empty but the topmost; a missing one is no fault. */
  remove(key: string): Promise<void>;
  /** Writes, reads and removes a small temporary file; resolves with its time by the file system's own clock. */
  probe(): Promise<number>;
  /** Removes temporary files and folders that a crash left, `limits.storeLeftoverMs` before `nowMs`. */
  sweep(nowMs: number): Promise<void>;
}

/** What there is in memory, or what fills the file that it is given. */
export type Content = Buffer | ((file: FileHandle) => Promise<void>);

/** Folders with names that are not durable yet: those that were found there, which are remembered once they are. */
export type Unsettled = Map<string, [key: string, found: FoundFile][]>;

/** Made when the store is opened: a store without it is not there. */
export const INCOMING = 'incoming';
/** `files-`: a folder of a thread's (file-thread.js). */
const TEMPORARY = /^(file|files|probe)-[0-9a-f-]{36}$/;

export async function openDurableFiles(root: string): Promise<DurableFiles> {
  const incoming = join(root, INCOMING);
  const syncFolder = createFolderSync();
  const folders = createDurableFolders(root, syncFolder);
  const { make, makeDurable, ensure, ensureAll, forget, forgetOne } = folders;
  const writeTogether = createWritingTogether(folders);
  const names = createDurableNames();
  const guard = <T>(work: Promise<T>): Promise<T> => guarded(root, work);
  const syncNames = async (folder: string, later: Unsettled | undefined): Promise<void> => {
    if (later === undefined) return syncFolder(folder);
    if (!later.has(folder)) later.set(folder, []);
  };
  const place = async (temporary: string, target: string): Promise<void> => {
    const folder = dirname(target);
    try {
      await rename(temporary, target);
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause;
      // Another process has removed the folder since it became known, or one above it.
      forget();
      await make(folder);
      await rename(temporary, target);
    }
  };
  const name = async (temporary: string, target: string, later: Unsettled | undefined): Promise<void> => {
    const folder = dirname(target);
    await guard(place(temporary, target));
    // Side by side, so that the system can make all names durable at once.
    await guard(Promise.all([makeDurable(folder), syncNames(folder, later)]));
  };
  /** False where it has to be written alone. */
  const writeSmall = async (key: string, content: Content, later: Unsettled | undefined): Promise<boolean> => {
    if (!Buffer.isBuffer(content) || content.length > limits.togetherBytesMax) return false;
    const target = join(root, key);
    if (!(await writeTogether({ temporary: newTemporary(incoming), target, content, withName: later === undefined }))) return false;
    if (later !== undefined) await syncNames(dirname(target), later);
    return true;
  };
  await makeFolder(root, 0o700);
  await ensure(incoming);
  return {
    write: async (key, content, later) => {
      if (await writeSmall(key, content, later)) return;
      await withTemporary(incoming, async (temporary) => {
        const target = join(root, key);
        // Before any folder: where the store is gone, a disk that is not mounted, none is made in its place.
        const file = await openNew(temporary, content, guard);
        const [filled, made] = await Promise.allSettled([file.fillAndClose(), guard(make(dirname(target)))]);
        for (const done of [filled, made]) if (done.status === 'rejected') throw done.reason;
        await name(temporary, target, later);
      });
    },
    writeUnnamed: (fill, later) =>
      withTemporary(incoming, async (temporary) => {
        const file = await guard(open(temporary, 'wx'));
        const key = await fillAndClose(file, fill, guard);
        if (key === null) return guard(unlink(temporary));
        const target = join(root, key);
        await guard(make(dirname(target)));
        await name(temporary, target, later);
      }),
    prepare: async (parent, names) => {
      await ensureAll(join(root, parent), names).catch((cause) => (isFull(cause) ? undefined : guard(Promise.reject(cause))));
    },
    confirm: async (key, found, later) => {
      if (names.has(key, found)) return;
      const folder = dirname(join(root, key));
      await guard(ensure(folder));
      await guard(syncNames(folder, later));
      if (later === undefined) names.add(key, found);
      else later.get(folder)?.push([key, found]);
    },
    settle: async (later) => {
      const settling = [...later];
      later.clear();
      try {
        await guard(eachAtOnce(settling, limits.filesAtOnce, ([folder]) => syncFolder(folder)));
      } catch (cause) {
        for (const [folder, found] of settling) later.set(folder, [...found, ...(later.get(folder) ?? [])]);
        throw cause;
      }
      for (const [, found] of settling) for (const one of found) names.add(...one);
    },
    remove: async (key) => {
      for (let folder = dirname(join(root, key)); folder !== root; folder = dirname(folder)) forgetOne(folder);
      await guard(removeFile(root, key));
    },
    probe: () => guard(probe(join(incoming, `probe-${randomUUID()}`))),
    sweep: (nowMs) => guard(sweepFolder(incoming, nowMs - limits.storeLeftoverMs)),
  };
}

function newTemporary(incoming: string): string {
  return join(incoming, `file-${randomUUID()}`);
}

async function withTemporary(incoming: string, work: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = newTemporary(incoming);
  try {
    await work(temporary);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw cause;
  }
}

/** Rejects with `store-full` or `store-unavailable` where the work fails for a reason of the file system. */
export async function guarded<T>(root: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof BuilderError) throw cause;
    const full = isFull(cause);
    throw new BuilderError(
      full ? 'store-full' : 'store-unavailable',
      `expected ${full ? 'room' : 'to read and write'} in the store's folder ${root}, got ${oneLine(cause)}`,
      { cause },
    );
  }
}

/** Whether the disk, or what its user may have of it, has no room. */
export function isFull(cause: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(codeOf(cause));
}

/** The code of a fault of the system (`ENOENT`…), or an empty text. */
export function codeOf(thrown: unknown): string {
  return typeof thrown === 'object' && thrown !== null && 'code' in thrown ? String(thrown.code) : '';
}

/** Writes all of it: one write of the system may take only a part. */
export async function writeWhole(file: FileHandle, content: Buffer): Promise<void> {
  for (let left = content; left.length > 0; ) left = left.subarray((await file.write(left)).bytesWritten);
}

type Guard = <T>(work: Promise<T>) => Promise<T>;

/** Open, and durable but for its name once `fillAndClose` has resolved. */
async function openNew(path: string, content: Content, guard: Guard): Promise<{ fillAndClose(): Promise<void> }> {
  if (!Buffer.isBuffer(content)) {
    const file = await guard(open(path, 'wx'));
    return { fillAndClose: () => fillAndClose<void>(file, content, guard) };
  }
  const file = await guard(openBare(path, 'wx'));
  return { fillAndClose: () => guard(writeAndClose(file, content)) };
}

/** What is filled with null need not be durable. */
async function fillAndClose<T>(file: FileHandle, fill: (file: FileHandle) => Promise<T>, guard: Guard): Promise<T> {
  try {
    const filled = await fill(file);
    if (filled !== null) await guard(file.datasync());
    return filled;
  } finally {
    await guard(file.close());
  }
}

// A bare number costs half of what a FileHandle does, and most files are small.
const openBare = promisify(fs.open);
const writeBare = promisify(fs.write);
const syncBare = promisify(fs.fdatasync);
const closeBare = promisify(fs.close);

async function writeAndClose(file: number, content: Buffer): Promise<void> {
  try {
    for (let left = content; left.length > 0; ) left = left.subarray((await writeBare(file, left)).bytesWritten);
    await syncBare(file);
  } finally {
    await closeBare(file);
  }
}

async function removeFile(root: string, key: string): Promise<void> {
  await rm(join(root, key), { force: true });
  for (let folder = dirname(key); folder.includes('/'); folder = dirname(folder)) {
    try {
      await rmdir(join(root, folder));
    } catch {
      return; // not empty, or gone already
    }
  }
}

async function probe(path: string): Promise<number> {
  const content = Buffer.from('builder');
  const file = await open(path, 'wx+');
  try {
    await writeWhole(file, content);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(content.length), 0, content.length, 0);
    if (bytesRead !== content.length || !content.equals(buffer)) throw new Error('other content than was written');
    return (await file.stat()).mtimeMs;
  } finally {
    await file.close();
    await unlink(path).catch(() => undefined);
  }
}

async function sweepFolder(incoming: string, beforeMs: number): Promise<void> {
  for (const name of await readdir(incoming)) {
    if (!TEMPORARY.test(name)) continue;
    const path = join(incoming, name);
    const modifiedMs = await stat(path).then(
      (found) => found.mtimeMs,
      () => Number.POSITIVE_INFINITY,
    );
    if (modifiedMs >= beforeMs) continue;
    await rm(path, { force: true, recursive: true }).catch((cause: unknown) => {
      // A folder that another user's program left is for that user to remove, and no reason to refuse the store.
      if (!['EACCES', 'EPERM'].includes(codeOf(cause))) throw cause;
    });
  }
}
