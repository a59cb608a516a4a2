/** A worker's place on disk and its name: nobody living shares them, and what the dead left is taken over. */
import { readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../src/artifacts/durable-files.ts';
import { limits } from '../src/job/limits.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { linkOnce } from '../src/service/link-once.ts';
import { makeFolder } from '../src/service/make-folder.ts';
import { identityOf } from '../src/service/process-identity.ts';
import { type LeftFolder, takeLeftFolders, takersOf } from './left-folders.ts';
import { type Gone, withRoom } from './make-room.ts';
import { readRegular } from './regular-file.ts';
import { removeTree } from './remove-tree.ts';

export interface WorkFolder {
  /** The worker's name, unique among the living on this machine. */
  name: string;
  path: string;
  /** What dead workers left below the same root; this worker's now, outside of its own folder. */
  left: LeftFolder[];
  /** What had to go of it, since the disk had no room for this one. */
  gone: Gone[];
  /** Removes the folder, unless it holds an attempt that could not be put away: that is for the next start. */
  release(): Promise<void>;
}

const SAME_NAME_MAX = 1_000;

/**
 * Takes `<root>/<name>`; when its owner lives, a name that was only a default gets a number. Folders under the root whose owner is
 * dead are taken over first. Throws `bad-config` for a folder that cannot be written and for a given name that is in use.
 */
export async function takeWorkFolder(root: string, name: string, isDefault: boolean): Promise<WorkFolder> {
  try {
    await makeFolder(root, 0o700);
    const identity = String(await identityOf(process.pid));
    const left = await takeLeftFolders(root, identity);
    const gone: Gone[] = [];
    for (let count = 1; count <= SAME_NAME_MAX; count += 1) {
      const candidate = count === 1 ? name : `${name.slice(0, 58)}-${count}`;
      const path = join(root, candidate);
      if (await withRoom(left, gone, () => claim(path, identity))) {
        // Where nothing can go it may do with less.
        if (left.length > 0) await withRoom(left, gone, () => tryRoom(path)).catch(() => undefined);
        // A sandbox that covers what a link on the way lies in shows the place itself.
        return { name: candidate, path: await realpath(path), left, gone, release: () => release(path) };
      }
      if (!isDefault) throw new BuilderError('bad-config', `expected a worker name that is not in use on this machine, got ${name}`);
    }
  } catch (cause) {
    if (cause instanceof BuilderError) throw cause;
    throw new BuilderError('bad-config', `expected a folder that can be written (BUILDER_WORK_DIR), got ${root}: ${oneLine(cause)}`, {
      cause,
    });
  }
  throw new BuilderError('bad-config', `expected fewer than ${SAME_NAME_MAX} workers of the name ${name}`);
}

async function claim(path: string, identity: string): Promise<boolean> {
  for (;;) {
    // Node’s own recursive mkdir says ENOENT where there is no room.
    await makeFolder(path, 0o700);
    try {
      if (!(await linkOnce(join(path, 'owner'), identity))) return false;
      // Another start may just be taking away what a dead worker had left here. In this order: a folder once renamed never comes back.
      const isTaken = (await takersOf(path)).length > 0;
      if ((await readRegular(join(path, 'owner'), Buffer.byteLength(identity))) !== identity) continue;
      if (isTaken) await rm(join(path, 'owner'), { force: true });
      return !isTaken;
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause;
    }
  }
}

/** What a start needs beside its owner's file, such as the trial of a sandbox. */
async function tryRoom(path: string): Promise<void> {
  const trial = join(path, 'room.new');
  try {
    await writeFile(trial, Buffer.alloc(limits.startRoomBytes));
  } finally {
    await rm(trial, { force: true });
  }
}

async function release(path: string): Promise<void> {
  const held = await readdir(join(path, 'runs')).catch((): string[] => []);
  if (held.length === 0) await removeTree(path);
}
