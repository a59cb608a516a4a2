/** Scripts executed for real in the sandboxes of this machine. */
import { randomUUID } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, test } from '@jest/globals';
import { createExecutor, type Executed, type Execution, type Executor } from '../../workers/executor.ts';
import { bwrapSandbox } from '../../workers/sandbox/bwrap.ts';
import { chooseSandbox } from '../../workers/sandbox/choose.ts';
import { SANDBOX_NAMES, type SandboxName } from '../../workers/sandbox/sandbox.ts';
import { createSlots } from '../../workers/sandbox/slots.ts';
import { type TempFolder, tempFolder } from './temp.ts';

export const SCRIPTS = fileURLToPath(new URL('../fixtures/scripts/', import.meta.url));
const NEVER = new AbortController().signal;

/** Where bwrap makes no rooms, or may not be used in one, it makes the namespaces of each run. */
export const BWRAP_EACH = 'bwrap for each run';
type Title = SandboxName | typeof BWRAP_EACH;

/** Those that work on this machine, for `describe.each`; of the others a line says why not. */
export async function executorsHere(names: readonly SandboxName[] = SANDBOX_NAMES): Promise<[Title, Executor][]> {
  const executors: [Title, Executor][] = [];
  for (const name of names) {
    try {
      executors.push([name, createExecutor(await chooseSandbox(name, runsFolder()))]);
      if (name === 'bwrap') executors.push([BWRAP_EACH, createExecutor(bwrapSandbox('/usr/bin/bwrap', createSlots()))]);
    } catch (cause) {
      process.stderr.write(`skipped: the sandbox ${name}: ${(cause as Error).message}\n`);
    }
  }
  return executors;
}

/** A part of the suite per sandbox; where none of them works it shows as skipped. */
export function describeUnder(
  executors: readonly [Title, Executor][],
  title: string,
  body: (name: Title, execute: Executor) => void,
): void {
  if (executors.length > 0) describe.each([...executors])(title, body);
  else describe.skip(title.replace('%s', 'a sandbox that does not work here'), () => test('nothing to try', () => undefined));
}

export interface Told extends Executed {
  stdout: string;
  stderr: string;
  mark: string;
  tookMs: number;
}

export type Options = Partial<Execution> & { onText?: (text: string) => void };

const folders: TempFolder[] = [];

/** Where the folders of this file's runs lie, each with its neighbours. */
export function runsFolder(): string {
  if (folders.length === 0) folders.push(tempFolder());
  const path = join((folders[0] as TempFolder).path, 'runs');
  mkdirSync(path, { recursive: true });
  return path;
}

export function removeRuns(): void {
  for (const folder of folders.splice(0)) folder.remove();
}

/** A script of the fixtures, or its text. */
export async function run(execute: Executor, script: string, { onText, ...options }: Options = {}): Promise<Told> {
  const claim = randomUUID();
  const root = join(runsFolder(), claim);
  for (const name of ['home', 'tmp']) mkdirSync(join(root, name), { recursive: true });
  const path = join(root, 'home', 'script.sh');
  if (existsSync(join(SCRIPTS, script))) copyFileSync(join(SCRIPTS, script), path);
  else writeFileSync(path, script, { mode: 0o755 });
  const mark = `BUILDER_CLAIM=${claim}`;
  const said: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  const begunAtMs = performance.now();
  const executed = await execute({
    script: path,
    folder: join(root, 'home'),
    tmp: join(root, 'tmp'),
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', BUILDER_CLAIM: claim },
    mark,
    timeoutMs: 60_000,
    graceMs: 1_000,
    cancel: NEVER,
    onOutput: (source, chunk) => {
      said[source].push(chunk);
      onText?.(chunk.toString());
    },
    ...options,
  });
  const text = { stdout: Buffer.concat(said.stdout).toString(), stderr: Buffer.concat(said.stderr).toString() };
  return { ...executed, ...text, mark, tookMs: performance.now() - begunAtMs };
}

/** Asks a script to end once it has said that it is ready. */
export function cancelled(execute: Executor, script: string, options: Options = {}): Promise<Told> {
  const cancel = new AbortController();
  const onText = (text: string): void => {
    if (text.includes('ready')) cancel.abort();
  };
  return run(execute, script, { cancel: cancel.signal, onText, ...options });
}

/** Processes that are not zombies, with the mark in their environment. */
export function alive(mark: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return (
        /^\d+$/.test(pid) &&
        readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark) &&
        !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
      );
    } catch {
      return false;
    }
  });
}

/** How many this process has. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
