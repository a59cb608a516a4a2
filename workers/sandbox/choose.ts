/** Which sandbox this machine has: each is tried for real, once, with its init and a script that does nothing. */
import { accessSync, closeSync, constants, openSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BuilderError, oneLine } from '../../src/service/errors.ts';
import { bwrapSandbox } from './bwrap.ts';
import { noSandbox } from './none.ts';
import { createOutputPipes } from './output-pipes.ts';
import type { Sandbox, SandboxName } from './sandbox.ts';
import { unshareSandbox } from './unshare.ts';

const INIT = fileURLToPath(new URL('./init.pl', import.meta.url));
/** Where wrappers are looked for, whatever the worker's own PATH says. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const PROBE_MS_MAX = 10_000;

/**
 * `auto` takes the first that works of bwrap, unshare, none. What trying needs is made below `folder`, the worker's own, and removed. Throws
 * `bad-config` when the wanted one does not work here, with why.
 */
export async function chooseSandbox(wanted: 'auto' | SandboxName, folder: string): Promise<Sandbox> {
  if (wanted === 'none') return noSandbox();
  const whyNot: string[] = [];
  for (const name of wanted === 'auto' ? (['bwrap', 'unshare'] as const) : [wanted]) {
    const opened = open(name);
    const fault = typeof opened === 'string' ? opened : await probe(opened.sandbox, folder);
    if (fault === null && typeof opened !== 'string') return opened.sandbox;
    if (typeof opened !== 'string') closeSync(opened.initFd);
    whyNot.push(`${fault}`);
  }
  if (wanted === 'auto') return noSandbox();
  throw new BuilderError('bad-config', `expected a sandbox that works here, got ${wanted}: ${whyNot.join('; ')}`);
}

/** init.pl stays open as long as the worker lives. */
function open(name: 'bwrap' | 'unshare'): { sandbox: Sandbox; initFd: number } | string {
  const program = find(name);
  if (program === null) return `${name} is not installed`;
  if (!isExecutable('/usr/bin/perl')) return '/usr/bin/perl is not installed';
  const initFd = openSync(INIT, 'r');
  return { sandbox: (name === 'bwrap' ? bwrapSandbox : unshareSandbox)(program, initFd), initFd };
}

/** Null when it works. */
async function probe(sandbox: Sandbox, parent: string): Promise<string | null> {
  const folder = await mkdtemp(join(parent, 'probe-'));
  const pipes = createOutputPipes(folder);
  try {
    for (const name of ['home', 'tmp']) await mkdir(join(folder, name));
    const taken = await pipes.takeTwo();
    const [{ writeEnd: stdout }, { writeEnd: stderr }] = taken;
    try {
      const mark = 'BUILDER_CLAIM=probe';
      const paths = { script: join(folder, 'home'), folder: join(folder, 'home'), tmp: join(folder, 'tmp') };
      const env = { BUILDER_CLAIM: 'probe' };
      const started = await sandbox.start({
        ...paths,
        argv: ['/bin/true'],
        env,
        mark,
        network: 'on',
        enter: [],
        hide: [folder],
        stdout,
        stderr,
      });
      await started.finish(AbortSignal.timeout(PROBE_MS_MAX));
      const { exitCode, signal } = await started.leader;
      return exitCode === 0 ? null : `${sandbox.name} ended /bin/true with ${signal ?? exitCode}`;
    } finally {
      for (const { readEnd, writeEnd } of taken) [readEnd, writeEnd].forEach(closeSync);
    }
  } catch (cause) {
    return oneLine(cause);
  } finally {
    pipes.close();
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
