/** Which sandbox this machine has: each is tried for real, once, with its init and a script that does nothing. */
import { accessSync, closeSync, constants } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { BuilderError, oneLine } from '../../src/service/errors.ts';
import { bwrapRooms, bwrapSandbox } from './bwrap.ts';
import { noSandbox } from './none.ts';
import { SANDBOX_NAMES, type Sandbox, type SandboxName } from './sandbox.ts';
import { createSlots } from './slots.ts';
import { unshareSandbox } from './unshare.ts';

/** Where wrappers are looked for, whatever the worker's own PATH says. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const PROBE_MS_MAX = 10_000;

/**
 * `auto` takes the first that works of bwrap, unshare, none. What trying needs is made below `folder`, the worker's own, and removed. Throws
 * `bad-config` when the wanted one does not work here, with why.
 */
export async function chooseSandbox(wanted: 'auto' | SandboxName, folder: string): Promise<Sandbox> {
  const whyNot: string[] = [];
  for (const name of wanted === 'auto' ? SANDBOX_NAMES : [wanted]) {
    const opened = open(name, folder);
    if (typeof opened === 'string') whyNot.push(opened);
    else {
      for (const sandbox of opened) {
        const fault = await probe(sandbox, folder);
        if (fault === null) return sandbox;
        whyNot.push(fault);
      }
    }
  }
  throw new BuilderError('bad-config', `expected a sandbox that works here, got ${wanted}: ${whyNot.join('; ')}`);
}

/** The ways in which it may work, the best first, or why there is none. Each has slots of its own: one that failed may have spoilt them. */
function open(name: SandboxName, folder: string): Sandbox[] | string {
  if (!isExecutable('/usr/bin/perl')) return '/usr/bin/perl is not installed';
  if (name === 'none') return [noSandbox(createSlots())];
  const program = find(name);
  if (program === null) return `${name} is not installed`;
  if (name === 'unshare') return [unshareSandbox(program, createSlots())];
  return [bwrapRooms(program, folder), bwrapSandbox(program, createSlots())].filter((one) => one !== null);
}

/** Null when it works. */
async function probe(sandbox: Sandbox, parent: string): Promise<string | null> {
  const folder = await mkdtemp(join(parent, 'probe-'));
  try {
    for (const name of ['home', 'tmp']) await mkdir(join(folder, name));
    const paths = { folder: join(folder, 'home'), tmp: join(folder, 'tmp') };
    const mark = { mark: 'BUILDER_CLAIM=probe', env: { BUILDER_CLAIM: 'probe' } };
    const started = await sandbox.start({ ...paths, ...mark, argv: ['/bin/true'], network: 'on', enter: [], hide: [folder] });
    for (const fd of [started.stdout, started.stderr]) closeSync(fd);
    await started.finish(AbortSignal.timeout(PROBE_MS_MAX));
    const { exitCode, signal } = await started.leader;
    return exitCode === 0 ? null : `${sandbox.name} ended /bin/true with ${signal ?? exitCode}`;
  } catch (cause) {
    return oneLine(cause);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function find(program: string): string | null {
  return (
    PATH.split(delimiter)
      .map((folder) => join(folder, program))
      .find(isExecutable) ?? null
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
