/**
 * The folders of dead workers, taken by one living worker each. A folder belongs to who is named in its file `owner`, or, once it was
 * taken, in the name of that file: `taken-…`. Who renames it has the folder; that needs no room, which a dead run may have used up.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../src/artifacts/durable-files.ts';
import { oneLine } from '../src/service/errors.ts';
import { linkOnce } from '../src/service/link-once.ts';
import { isAlive } from '../src/service/process-identity.ts';
import { removeLeftCgroups } from './limits/run-cgroup.ts';
import { readRegular } from './regular-file.ts';
import { pathsIn } from './run-paths.ts';
import { endMarked } from './sandbox/marked-processes.ts';
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
const TAKEN = /^taken-(\d+)-(\d+)-(.+)$/;

/** Takes what is below `root` and whose owner is dead, for the process of this identity, and ends what lives of its runs. */
export async function takeLeftFolders(root: string, identity: string): Promise<LeftFolder[]> {
  const left: LeftFolder[] = [];
  for (const entry of await readdir(root)) {
    const path = await takeOne(root, entry, identity);
    if (path !== null) left.push(await endAll(path));
  }
  return left;
}

/** Those by whom a folder was taken: one, and more where scripts could write there. */
export async function takersOf(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => TAKEN.test(name)).sort();
}

/** The new path; null for what somebody living has, or took first. Never follows a link: scripts may write here under some sandboxes. */
async function takeOne(root: string, entry: string, identity: string): Promise<string | null> {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  // What cannot be opened is no folder of a worker, or of another user's.
  const folder = await open(join(root, entry), O_RDONLY | O_DIRECTORY | O_NOFOLLOW).catch(() => null);
  if (folder === null) return null;
  try {
    // Not by its path, where a new folder may be at any moment: others take folders too.
    if (!(await inherit(`/proc/self/fd/${folder.fd}`, identity))) return null;
    const [path, taken] = [await readlink(`/proc/self/fd/${folder.fd}`), join(root, `~${randomBytes(8).toString('hex')}`)];
    await rename(path, taken);
    return taken;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return null;
    throw cause;
  } finally {
    await folder.close();
  }
}

async function inherit(folder: string, identity: string): Promise<boolean> {
  const ownerPath = join(folder, 'owner');
  const owner = await readRegular(ownerPath, IDENTITY_BYTES_MAX);
  const takers = await takersOf(folder);
  const [taken] = takers;
  if (owner === null && taken === undefined) {
    // It is being made this very moment, or a rename hid the name from this look; unless it holds runs and still has no name.
    if (!(await isFolder(join(folder, 'runs'))) || !(await linkOnce(ownerPath, identity))) return false;
    if ((await takersOf(folder)).length === 0) return true;
    await rm(ownerPath, { force: true });
    return false;
  }
  const holders = [...(owner === null ? [] : [owner]), ...takers.map(identityIn)];
  for (const holder of holders) if (await isAlive(holder)) return false;
  const [pid, start, boot] = identity.split(' ');
  const [theirs, mine] = [taken === undefined ? ownerPath : join(folder, taken), join(folder, `taken-${pid}-${start}-${boot}`)];
  const text = await readRegular(theirs, IDENTITY_BYTES_MAX);
  if (taken === undefined && text !== owner) return false;
  await rename(theirs, mine);
  if ((await readRegular(mine, IDENTITY_BYTES_MAX)) === text) return true;
  // The dead one's was taken between the look and the rename; this was of a start that is about to see so.
  await rm(mine, { force: true });
  return false;
}

function identityIn(taken: string): string {
  const [, pid, start, boot] = TAKEN.exec(taken) ?? [];
  return `${pid} ${start} ${boot}`;
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
