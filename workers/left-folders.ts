/**
 * The folders of dead workers, taken by one living worker each. A folder belongs to who is named in its file `owner`; where that one
 * is dead, to the first who adds a file that names an heir; where the heir is dead too, to the first heir of the heir. A folder so
 * taken gets a name that no worker has and nobody uses twice, so that the old one is free.
 */
import { createHash, randomBytes } from 'node:crypto';
import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../src/artifacts/durable-files.ts';
import { oneLine } from '../src/service/errors.ts';
import { linkOnce } from '../src/service/link-once.ts';
import { isAlive } from '../src/service/process-identity.ts';
import { removeLeftCgroups } from './limits/run-cgroup.ts';
import { readRegular } from './regular-file.ts';
import { pathsIn } from './run-folder.ts';
import { endMarked } from './sandbox/none.ts';
import { markOf } from './script-environment.ts';

/** What an attempt has left on the disk; nothing of it is alive. */
export interface LeftAttempt {
  path: string;
  run: string;
  attempt: number;
  claim: string;
}

export interface LeftFolder {
  path: string;
  attempts: LeftAttempt[];
  /** Why something of it may still live, on one line: then it is for a later start. */
  fault: string | null;
}

const IDENTITY_BYTES_MAX = 1024;

/** Takes what is below `root` and whose owner is dead, for the process of this identity, and ends what lives of its runs. */
export async function takeLeftFolders(root: string, identity: string): Promise<LeftFolder[]> {
  const left: LeftFolder[] = [];
  for (const entry of await readdir(root)) {
    const path = await takeOne(root, entry, identity);
    if (path !== null) left.push(await endAll(path));
  }
  return left;
}

/** The new path; null for what somebody living has, or took first. Never follows a link: scripts may write here under some sandboxes. */
async function takeOne(root: string, entry: string, identity: string): Promise<string | null> {
  const path = join(root, entry);
  try {
    if (!(await isFolder(path)) || !(await inherit(path, identity))) return null;
    const taken = join(root, `~${randomBytes(8).toString('hex')}`);
    await rename(path, taken);
    return taken;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return null;
    throw cause;
  }
}

async function inherit(path: string, identity: string): Promise<boolean> {
  const owner = await readRegular(join(path, 'owner'), IDENTITY_BYTES_MAX);
  // Without an owner it is being made this very moment, unless it holds runs.
  if (owner === null) return (await isFolder(join(path, 'runs'))) && (await linkOnce(join(path, 'owner'), identity));
  for (let holder = owner, generation = 1; !(await isAlive(holder)); generation += 1) {
    const heir = join(path, `heir-${generation}-${createHash('sha256').update(holder).digest('hex').slice(0, 16)}`);
    if (await linkOnce(heir, identity)) {
      if ((await readRegular(join(path, 'owner'), IDENTITY_BYTES_MAX)) === owner) return true;
      // Another start has taken the folder that was here, and this is a new one.
      await rm(heir, { force: true });
      return false;
    }
    holder = (await readRegular(heir, IDENTITY_BYTES_MAX)) ?? holder;
  }
  return false;
}

/** First the processes of the runs, then their control groups. */
async function endAll(path: string): Promise<LeftFolder> {
  const attempts = await attemptsIn(join(path, 'runs'));
  let fault: string | null = null;
  for (const one of attempts) {
    await endMarked(markOf(one.claim)).catch((cause) => {
      fault = oneLine(cause);
    });
    // What the kernel does not let go of must not keep a worker from its start.
    await removeLeftCgroups(pathsIn(one.path).cgroupsPath, one.claim).catch(() => undefined);
  }
  return { path, attempts, fault };
}

async function attemptsIn(runs: string): Promise<LeftAttempt[]> {
  if (!(await isFolder(runs))) return [];
  const attempts: LeftAttempt[] = [];
  for (const entry of await readdir(runs, { withFileTypes: true })) {
    const [, run, attempt, claim] = /^([0-9a-f-]{36})-(\d+)-([0-9a-f]+)$/.exec(entry.name) ?? [];
    if (!entry.isDirectory() || run === undefined || claim === undefined) continue;
    attempts.push({ path: join(runs, entry.name), run, attempt: Number(attempt), claim });
  }
  return attempts;
}

function isFolder(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
