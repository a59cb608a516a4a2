/** Removing a folder that a script has filled: however much lies in it, however deep, whatever rights it gave to it. */
import { randomUUID } from 'node:crypto';
import { chmod, lstat, rename, rmdir, unlink } from 'node:fs/promises';
import { codeOf } from '../src/artifacts/durable-files.ts';
import { limits } from '../src/job/limits.ts';
import { batchesOf, pathIn } from './folder-batches.ts';

const FORBIDDEN = new Set(['EACCES', 'EPERM']);
/** Some file systems skip names while others are removed. */
const NOT_EMPTY = new Set(['ENOTEMPTY', 'EEXIST']);
const TRIES_MAX = 3;

interface Removal {
  root: Buffer;
  /** The first; what can go goes all the same. */
  fault: unknown;
}

/** A missing one is no fault. Links are removed, never followed. Node's own would ask for every file of the tree at once. */
export async function removeTree(path: string): Promise<void> {
  const removal: Removal = { root: Buffer.from(path), fault: null };
  const found = await unlessMissing(lstat(path));
  if (found?.isDirectory()) await removeFolder(removal, removal.root);
  else if (found !== undefined) await unlessMissing(unlink(path));
  if (removal.fault !== null) throw removal.fault;
}

async function removeFolder(removal: Removal, folder: Buffer): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await empty(removal, folder);
      await rmdir(folder);
      return;
    } catch (cause) {
      const code = codeOf(cause);
      if (code === 'ENOENT') return;
      // What is left in it has been tried as often as this may be.
      if (NOT_EMPTY.has(code) && removal.fault !== null) return;
      if (tries === TRIES_MAX || !(NOT_EMPTY.has(code) || FORBIDDEN.has(code))) {
        removal.fault ??= cause;
        return;
      }
      if (FORBIDDEN.has(code)) await allow(removal, folder);
    }
  }
}

async function empty(removal: Removal, folder: Buffer): Promise<void> {
  const inside: Buffer[] = [];
  for await (const entries of batchesOf(folder)) {
    const files = entries.filter((entry) => !entry.isDirectory());
    await Promise.all(files.map((entry) => unlessMissing(unlink(pathIn(folder, entry)))));
    for (const entry of entries) if (entry.isDirectory()) inside.push(pathIn(folder, entry));
  }
  for (const one of inside) await removeFolder(removal, await withinReach(removal, one));
}

/** Paths are bounded, and a tree of folders is not: what lies too deep moves up. */
async function withinReach({ root }: Removal, folder: Buffer): Promise<Buffer> {
  if (folder.length <= limits.removePathBytesMax) return folder;
  const nearer = Buffer.concat([root, Buffer.from(`/${randomUUID()}`)]);
  await rename(folder, nearer);
  return nearer;
}

/** Gives the owner back the right to empty it, and to remove it from the one above. */
async function allow({ root }: Removal, folder: Buffer): Promise<void> {
  const above = folder.length > root.length ? [folder.subarray(0, folder.lastIndexOf('/'))] : [];
  for (const one of [...above, folder]) await chmod(one, 0o700).catch(() => undefined);
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cause;
  }
}
