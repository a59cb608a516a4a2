/** Executes one script in a sandbox: its output as it comes, its limits of time, its end, and the end of all that it left. */
import { closeSync, openSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import { dirname } from 'node:path';
import { limits } from '../src/job/limits.ts';
import type { Killed } from '../src/job/run.ts';
import { BuilderError } from '../src/service/errors.ts';
import { createOutputPipes, type OutputPipe, type OutputPipes } from './sandbox/output-pipes.ts';
import type { Sandbox, StartedScript } from './sandbox/sandbox.ts';

export interface Execution {
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
  /** Chunks of one source come in order; where it returns a promise, that source is not read on before. */
  onOutput(source: 'stdout' | 'stderr', chunk: Buffer): void | Promise<void>;
  network?: 'on' | 'none';
  /** Folders that the script is not to see, but for its own; default: where the folders of this worker's runs lie. */
  hide?: readonly string[];
}

export interface Executed {
  exitCode: number | null;
  signal: string | null;
  ended: 'exited' | 'timed-out' | 'cancelled';
  /** What had to be killed beside the script itself. */
  killed: Killed[];
  /** A process that the script left behind held its output open for longer than it was waited for. */
  outputHeld: boolean;
}

/** Resolves when nothing of the run is alive. Rejects for faults of builder, and with what `onOutput` threw; nothing lives then either. */
export type Executor = (execution: Execution) => Promise<Executed>;

export function createExecutor(sandbox: Sandbox): Executor {
  const pipes = createOutputPipes();
  return (execution) => execute(sandbox, pipes, execution);
}

type Ended = Executed['ended'] | 'fault';

async function execute(sandbox: Sandbox, pipes: OutputPipes, execution: Execution): Promise<Executed> {
  if (execution.cancel.aborted) return { exitCode: null, signal: null, ended: 'cancelled', killed: [], outputHeld: false };
  const { started, outputs } = await start(sandbox, pipes, execution);
  const kill = new AbortController();
  const finished = started.finish(kill.signal);
  finished.catch(() => undefined);
  const clocks: (() => void)[] = [];
  try {
    const ended = await endOf({ started, execution, outputs, clocks });
    if (ended !== 'exited') started.terminate();
    const patienceMs = { exited: limits.outputHoldMs, 'timed-out': execution.graceMs, cancelled: execution.graceMs, fault: 0 }[ended];
    clocks.push(after(patienceMs, () => kill.abort('over')));
    const { killed, held } = await finished;
    const given = await Promise.all(outputs.map((output) => output.drained()));
    const end = await started.leader;
    return {
      ...end,
      ended: ended === 'fault' ? 'cancelled' : ended,
      killed,
      outputHeld: (ended === 'exited' && held) || given.includes('given-up'),
    };
  } finally {
    for (const stop of clocks) stop();
    kill.abort('over');
    await finished.catch(() => undefined);
    for (const output of outputs) output.close();
  }
}

async function start(sandbox: Sandbox, pipes: OutputPipes, execution: Execution): Promise<{ started: StartedScript; outputs: Output[] }> {
  const [stdout, stderr] = await pipes.takeTwo();
  try {
    const started = await sandbox.start({
      argv: argvOf(execution.script),
      script: execution.script,
      folder: execution.folder,
      tmp: execution.tmp,
      env: checkedEnvironment(execution),
      mark: execution.mark,
      network: execution.network ?? 'on',
      hide: execution.hide ?? [dirname(dirname(execution.folder))],
      stdout: stdout.writeEnd,
      stderr: stderr.writeEnd,
    });
    const outputs = [
      readOutput(stdout, (chunk) => execution.onOutput('stdout', chunk)),
      readOutput(stderr, (chunk) => execution.onOutput('stderr', chunk)),
    ];
    return { started, outputs };
  } catch (cause) {
    for (const { readEnd } of [stdout, stderr]) closeSync(readEnd);
    throw cause;
  } finally {
    for (const { writeEnd } of [stdout, stderr]) closeSync(writeEnd);
  }
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

/** With the mark, whatever the caller has put in. */
function checkedEnvironment({ env, mark }: Execution): Record<string, string> {
  const entries = Object.entries(env);
  const wrong = entries.find(([name, value]) => name === '' || name.includes('=') || name.includes('\0') || value.includes('\0'));
  if (wrong !== undefined)
    throw new BuilderError('invalid-value', `expected an environment variable without NUL, got ${JSON.stringify(wrong[0])}`);
  const at = mark.indexOf('=');
  return { ...env, [mark.slice(0, at)]: mark.slice(at + 1) };
}

interface Watched {
  started: StartedScript;
  execution: Execution;
  outputs: Output[];
  /** Takes what stops the clocks that are set here. */
  clocks: (() => void)[];
}

/** Whatever comes first: the script's own end, its time, a cancellation, output that could not be taken. */
function endOf({ started, execution, outputs, clocks }: Watched): Promise<Ended> {
  return new Promise((resolve) => {
    const onCancel = (): void => resolve('cancelled');
    started.leader.then(
      () => resolve('exited'),
      () => resolve('fault'),
    );
    for (const { failed } of outputs) failed.catch(() => resolve('fault'));
    execution.cancel.addEventListener('abort', onCancel, { once: true });
    clocks.push(() => execution.cancel.removeEventListener('abort', onCancel));
    clocks.push(after(execution.timeoutMs, () => resolve('timed-out')));
    if (execution.cancel.aborted) onCancel();
  });
}

/** A timer that also holds a month. */
function after(delayMs: number, act: () => void): () => void {
  const partMs = Math.min(delayMs, limits.timerMsMax);
  let stopRest = (): void => undefined;
  const timer = setTimeout(() => {
    if (partMs < delayMs) stopRest = after(delayMs - partMs, act);
    else act();
  }, partMs);
  return () => {
    clearTimeout(timer);
    stopRest();
  };
}

interface Output {
  /** Rejects with what the taker of the output threw. */
  failed: Promise<never>;
  /** Resolves when the end was reached, or given up since nothing came for a while and nobody of the run is left to write. */
  drained(): Promise<'ended' | 'given-up'>;
  close(): void;
}

function readOutput(pipe: OutputPipe, take: (chunk: Buffer) => void | Promise<void>): Output {
  const socket = new Socket({ fd: pipe.readEnd, readable: true, writable: false });
  const state = { taking: false, lastAtMs: performance.now(), givenUp: false };
  const ended = readAll(socket, state, take);
  ended.catch(() => undefined);
  return {
    failed: new Promise<never>((_, reject) => ended.catch(reject)),
    drained: () => {
      state.lastAtMs = performance.now();
      const timer = setInterval(() => {
        state.givenUp = !state.taking && performance.now() - state.lastAtMs > limits.outputHoldMs;
        if (state.givenUp) socket.destroy();
      }, limits.leftoverPollMsMax);
      return ended.finally(() => clearInterval(timer));
    },
    close: () => void socket.destroy(),
  };
}

interface Reading {
  /** A chunk is being taken, so silence is not the writer's. */
  taking: boolean;
  lastAtMs: number;
  givenUp: boolean;
}

async function readAll(socket: Socket, state: Reading, take: (chunk: Buffer) => void | Promise<void>): Promise<'ended' | 'given-up'> {
  try {
    for await (const chunk of socket) {
      state.taking = true;
      await take(chunk as Buffer);
      state.taking = false;
      state.lastAtMs = performance.now();
    }
    return 'ended';
  } catch (cause) {
    if (state.givenUp) return 'given-up';
    throw cause;
  }
}
