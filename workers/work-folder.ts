/** A worker's place on disk and its name: nobody living shares them, and what the dead left is swept. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { makeFolder } from '../src/service/make-folder.ts';
import { identityOf, isAlive } from '../src/service/process-identity.ts';
import { removeLeftCgroups } from './limits/run-cgroup.ts';
import { removeTree } from './remove-tree.ts';
import { cgroupsPathIn } from './run-folder.ts';
import { endMarked } from './sandbox/none.ts';
import { markOf } from './script-environment.ts';

export interface WorkFolder {
  /** The worker's name, unique among the living on this machine. */
  name: string;
  path: string;
  release(): Promise<void>;
}

const SAME_NAME_MAX = 1_000;

/**
 * Takes `<root>/<name>`; when its owner lives, a name that was only a default gets a number. Folders under the root whose owner is
 * dead are removed first. Throws `bad-config` for a folder that cannot be written and for a given name that is in use.
 */
export async function takeWorkFolder(root: string, name: string, isDefault: boolean): Promise<WorkFolder> {
  try {
    await makeFolder(root, 0o700);
    for (const entry of await readdir(root)) if (!(await isOwned(join(root, entry)))) await sweep(join(root, entry));
    for (let count = 1; count <= SAME_NAME_MAX; count += 1) {
      const candidate = count === 1 ? name : `${name.slice(0, 58)}-${count}`;
      const path = join(root, candidate);
      if (await claim(path)) return { name: candidate, path, release: () => removeTree(path) };
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

/** First the processes of the runs whose folders are left, then their control groups, then the folders. */
async function sweep(path: string): Promise<void> {
  for (const run of await readdir(join(path, 'runs')).catch((): string[] => [])) {
    const claim = /-([0-9a-f]+)$/.exec(run)?.[1];
    if (claim === undefined) continue;
    await endMarked(markOf(claim));
    // What the kernel does not let go of must not keep a worker from its start.
    await removeLeftCgroups(cgroupsPathIn(join(path, 'runs', run)), claim).catch(() => undefined);
  }
  await removeTree(path);
}

async function claim(path: string): Promise<boolean> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  try {
    await writeFile(join(path, 'owner'), String(await identityOf(process.pid)), { flag: 'wx', mode: 0o600 });
    return true;
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') return false;
    throw cause;
  }
}

/** A folder that has no owner file yet is being taken this very moment, unless it holds runs. */
async function isOwned(path: string): Promise<boolean> {
  const owner = await readFile(join(path, 'owner'), 'utf8').catch(() => null);
  if (owner === null) return !(await readdir(path).catch((): string[] => [])).includes('runs');
  return isAlive(owner);
}
