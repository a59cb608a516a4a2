/** Executes one script in a sandbox: its output as it comes, its limits of time, its end, and the end of all that it left. */
import { closeSync, openSync, readSync } from 'node:fs';
import { dirname } from 'node:path';
import { limits } from '../src/job/limits.ts';
import type { Killed } from '../src/job/run.ts';
import { after } from '../src/service/after.ts';
import { BuilderError } from '../src/service/errors.ts';
import { type Ended, endOfScript } from './end-of-script.ts';
import { diskUsage } from './limits/disk-usage.ts';
import type { ProcessLimits } from './limits/limiter.ts';
import { type Output, readOutputs, type TakeOutput } from './read-output.ts';
import { type Sandbox, SandboxEnded, type StartedScript } from './sandbox/sandbox.ts';

export interface Execution {
  /** Lies in `folder`. */
  script: string;
  /** The working directory. */
  folder: string;
  tmp: string;
  /** The whole environment of the script; nothing is inherited. */
  env: Record<string, string>;
  /** `BUILDER_CLAIM=<claim>`, an entry of the environment: by it processes are known as the run's. */
  mark: string;
  timeoutMs: number;
  /** Between SIGTERM and SIGKILL. */
  graceMs: number;
  cancel: AbortSignal;
  /** What is left is killed limits.forcedGraceMs after this is aborted, whatever its grace. */
  force?: AbortSignal;
  /** Called for chunks in the order in which they come. */
  onOutput: TakeOutput;
  /** Called before it rejects where the script may have begun: what went wrong is no reason to execute it anew. */
  onBroken?: () => void;
  network?: 'on' | 'none';
  /** No output for so long ends the script; default: never. */
  silenceMs?: number | null;
  /** What `folder` and `tmp` may grow to together; default: what the disk has. */
  diskBytes?: number | null;
  /** Of each single process. */
  processLimits?: ProcessLimits;
  /** Control groups that the script is put into before its first instruction: open `cgroup.procs` files. */
  enter?: readonly number[];
  /** Folders that the script is not to see, but for its own; default: where the folders of this worker's runs lie. */
  hide?: readonly string[];
}

export interface Executed {
  exitCode: number | null;
  signal: string | null;
  ended: Exclude<Ended, 'fault'>;
  /** What had to be killed beside the script itself. */
  killed: Killed[];
  /** A process that the script left behind held its output open for longer than it was waited for. */
  outputHeld: boolean;
  /** It failed, and its folders are full to what they may hold. */
  diskFull: boolean;
}

/** Resolves when nothing of the run is alive. Rejects for faults of builder, and with what `onOutput` threw; nothing lives then either. */
export type Executor = (execution: Execution) => Promise<Executed>;

export function createExecutor(sandbox: Sandbox): Executor {
  return (execution) => execute(sandbox, execution);
}

async function execute(sandbox: Sandbox, execution: Execution): Promise<Executed> {
  if (execution.cancel.aborted) return { ...NO_END, ended: 'cancelled' };
  let hasSaid = false;
  const onOutput: TakeOutput = (...output) => {
    hasSaid = true;
    return execution.onOutput(...output);
  };
  const { started, outputs } = await start(sandbox, { ...execution, onOutput });
  // Init tells so; a script may have stopped it before it could.
  const hasBegun = (): boolean => hasSaid || started.hasBegun();
  const kill = new AbortController();
  const finished = started.finish(kill.signal);
  finished.catch(() => undefined);
  const clocks: (() => void)[] = [];
  let ended: Ended | null = null;
  let isOver = false;
  try {
    const { timeoutMs, graceMs, cancel, silenceMs = null, diskBytes = null } = execution;
    const folders = [execution.folder, execution.tmp];
    ended = await endOfScript({ started, outputs, timeoutMs, silenceMs, diskBytes, folders, cancel, clocks });
    // What fills the disk is given no time to fill it further.
    if (ended !== 'exited' && ended !== 'over-disk') started.terminate();
    const waits = { exited: limits.outputHoldMs, 'over-disk': 0, fault: 0, 'timed-out': graceMs, silent: graceMs, cancelled: graceMs };
    clocks.push(after(waits[ended], () => kill.abort('over')));
    clocks.push(whenAborted(execution.force, () => clocks.push(after(limits.forcedGraceMs, () => kill.abort('forced')))));
    const { killed, held } = await finished;
    isOver = true;
    const given = await Promise.all(outputs.map((output) => output.drained()));
    const end = await started.leader;
    const failed = ended === 'exited' && end.exitCode !== 0 && diskBytes !== null;
    return {
      ...end,
      ended: ended === 'fault' ? 'cancelled' : ended,
      killed,
      outputHeld: (ended === 'exited' && held) || given.includes('given-up'),
      diskFull: failed && (await diskUsage(folders, diskBytes, cancel)) >= diskBytes,
    };
  } catch (cause) {
    // What ended the script is known where that took the end of its sandbox: of a script that stops its init, say.
    if (cause instanceof SandboxEnded && hasBegun() && isOfTheScript(ended)) {
      return { ...NO_END, signal: ended === 'over-disk' ? 'SIGKILL' : null, ended };
    }
    if (hasBegun()) execution.onBroken?.();
    throw cause;
  } finally {
    for (const stop of clocks) stop();
    if (!isOver) kill.abort('over');
    await finished.catch(() => undefined);
    for (const output of outputs) output.close();
  }
}

const NO_END = { exitCode: null, signal: null, killed: [], outputHeld: false, diskFull: false };

/** What builder ends a script for, whatever becomes of it then. */
function isOfTheScript(ended: Ended | null): ended is 'timed-out' | 'silent' | 'over-disk' {
  return ended === 'timed-out' || ended === 'silent' || ended === 'over-disk';
}

/** Returns what stops waiting for it. */
function whenAborted(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal?.aborted) act();
  else signal?.addEventListener('abort', act, { once: true });
  return () => signal?.removeEventListener('abort', act);
}

async function start(sandbox: Sandbox, execution: Execution): Promise<{ started: StartedScript; outputs: Output[] }> {
  const started = await sandbox.start({
    argv: limited(argvOf(execution.script), execution.processLimits),
    enter: execution.enter ?? [],
    folder: execution.folder,
    tmp: execution.tmp,
    env: checkedEnvironment(execution),
    mark: execution.mark,
    network: execution.network ?? 'on',
    hide: execution.hide ?? [dirname(dirname(execution.folder))],
  });
  return { started, outputs: readOutputs(started, execution.onOutput) };
}

/** Synchronous: two bytes of a file that was just written cost less than a way through the thread pool. */
function argvOf(script: string): [string, ...string[]] {
  const file = openSync(script, 'r');
  try {
    const head = Buffer.alloc(2);
    readSync(file, head);
    return head.toString('latin1') === '#!' ? [script] : ['/bin/sh', '-e', script];
  } finally {
    closeSync(file);
  }
}

/** POSIX has shells count files in blocks of 512 bytes; the data segment is counted in 1024. */
function limited(argv: [string, ...string[]], processLimits: ProcessLimits | undefined): [string, ...string[]] {
  const { fileBytes = null, dataBytes = null } = processLimits ?? {};
  const steps: string[] = [];
  if (fileBytes !== null) steps.push(`ulimit -f ${Math.ceil(fileBytes / 512)}`);
  if (dataBytes !== null) steps.push(`ulimit -d ${Math.ceil(dataBytes / 1024)}`);
  return steps.length === 0 ? argv : ['/bin/sh', '-c', `${steps.join(' && ')} && exec "$@"`, 'sh', ...argv];
}

/** With the mark, whatever the caller has put in. */
function checkedEnvironment({ env, mark }: Execution): Record<string, string> {
  const entries = Object.entries(env);
  const wrong = entries.find(([name, value]) => name === '' || name.includes('=') || name.includes('\0') || value.includes('\0'));
  if (wrong !== undefined)
    throw new BuilderError('invalid-value', `expected an environment variable without NUL, got ${JSON.stringify(wrong[0])}`);
  const at = mark.indexOf('=');
  return { ...env, [mark.slice(0, at)]: mark.slice(at + 1) };
}
