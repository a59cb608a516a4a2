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
  await removeFolder(removal, removal.root);
  if (removal.fault !== null) throw removal.fault;
}

/** Whether it is gone. */
async function removeFolder(removal: Removal, folder: Buffer): Promise<boolean> {
  for (let tries = 1; ; tries += 1) {
    try {
      // It was listed a while ago: what has taken its place since may be a link.
      if (!(await lstat(folder)).isDirectory()) await unlink(folder);
      else if (await empty(removal, folder)) await rmdir(folder);
      else return false;
      return true;
    } catch (cause) {
      const code = codeOf(cause);
      if (code === 'ENOENT') return true;
      if (tries === TRIES_MAX || !(NOT_EMPTY.has(code) || FORBIDDEN.has(code))) {
        removal.fault ??= cause;
        return false;
      }
      if (FORBIDDEN.has(code)) await allow(removal, folder);
    }
  }
}

/** Whether it is. It goes down once: tried again at each level, what cannot go would be tried as often as three to the power of its depth. */
async function empty(removal: Removal, folder: Buffer): Promise<boolean> {
  const inside: Buffer[] = [];
  let isEmpty = true;
  for await (const entries of batchesOf(folder)) {
    const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => pathIn(folder, entry));
    const left = await unlinkAll(files);
    if (left.length > 0) {
      await allow(removal, folder);
      const [still] = await unlinkAll(left.map(({ path }) => path));
      if (still !== undefined) isEmpty = false;
      removal.fault ??= still?.cause ?? null;
    }
    for (const entry of entries) if (entry.isDirectory()) inside.push(pathIn(folder, entry));
  }
  for (const one of inside) {
    const near = await withinReach(removal, one);
    if (near === null || !(await removeFolder(removal, near))) isEmpty = false;
  }
  return isEmpty;
}

/** Those that are still there. */
async function unlinkAll(paths: Buffer[]): Promise<{ path: Buffer; cause: unknown }[]> {
  const gone = await Promise.all(
    paths.map((path) =>
      unlessMissing(unlink(path)).then(
        () => null,
        (cause: unknown) => ({ path, cause }),
      ),
    ),
  );
  return gone.filter((one) => one !== null);
}

/** Paths are bounded, and a tree of folders is not: what lies too deep moves up. */
async function withinReach(removal: Removal, folder: Buffer): Promise<Buffer | null> {
  const { root } = removal;
  if (folder.length <= limits.removePathBytesMax) return folder;
  const nearer = Buffer.concat([root, Buffer.from(`/${randomUUID()}`)]);
  // Who moves a folder to another changes it, and both of those.
  for (const one of [root, folder.subarray(0, folder.lastIndexOf('/')), folder]) await chmod(one, 0o700).catch(() => undefined);
  try {
    await rename(folder, nearer);
    return nearer;
  } catch (cause) {
    removal.fault ??= cause;
    return null;
  }
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
