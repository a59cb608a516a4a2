/** Room for a worker's start on a disk that runs of dead workers have filled: what is worth least of theirs goes first. */
import { lstat } from 'node:fs/promises';
import { isFull } from '../src/artifacts/durable-files.ts';
import { limits } from '../src/job/limits.ts';
import type { LeftFolder } from './left-folders.ts';
import { diskUsage } from './limits/disk-usage.ts';
import { removeTree } from './remove-tree.ts';
import { pathsIn } from './run-paths.ts';

/** What has to go: its path, and about how much room it had. */
export interface Gone {
  path: string;
  bytes: number;
}

/** Temporary files are stored by nobody; artifacts can be made again; a log cannot. */
const WORTH = ['tmp', 'home', 'spoolPath'] as const;
const BLOCK_BYTES = 512;

/** Does the work, and where there is no room for it removes something and does it again. Tells `gone` of it. Throws what the work throws. */
export async function withRoom<T>(left: LeftFolder[], gone: Gone[], work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (cause) {
      if (!isFull(cause)) throw cause;
      const removed = await makeRoom(left);
      if (removed.length === 0) throw cause;
      gone.push(...removed);
    }
  }
}

/** The largest first, and no more than is needed. Nothing of a run that may still live. */
async function makeRoom(left: LeftFolder[]): Promise<Gone[]> {
  const attempts = left.filter(({ fault }) => fault === null).flatMap((folder) => folder.attempts);
  const removed: Gone[] = [];
  for (const part of WORTH) {
    const found: Gone[] = [];
    for (const { path } of attempts) {
      const bytes = await roomOf(pathsIn(path)[part]);
      if (bytes !== null) found.push({ path: pathsIn(path)[part], bytes });
    }
    for (const one of found.sort((a, b) => b.bytes - a.bytes)) {
      if (removed.reduce((sum, { bytes }) => sum + bytes, 0) >= limits.startRoomBytes) return removed;
      // What cannot be removed gives no room.
      await removeTree(one.path).then(
        () => removed.push(one),
        () => undefined,
      );
    }
  }
  return removed;
}

/** Null for what is not there. */
async function roomOf(path: string): Promise<number | null> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return null;
  const inside = found.isDirectory() ? await diskUsage([path], Number.POSITIVE_INFINITY, new AbortController().signal) : 0;
  return found.blocks * BLOCK_BYTES + inside;
}
