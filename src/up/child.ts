/** A program that `up` starts, and starts again when it dies, until it is told to stop. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { BuilderError } from '../service/errors.ts';
import { pause } from '../service/lifecycle.ts';
import type { Logger } from '../service/logger.ts';

export interface ChildOptions {
  name: string;
  command: string[];
  cwd: string;
  /** Read anew at each start. */
  env: Record<string, string>;
  logFile: string;
  /** True for a program that tells by message when it is ready (`{ready: true, …}`) or why it cannot be (`{failed, exitCode}`). */
  tells: boolean;
  /** For a program that waits for the word `go` (`--held`): each start is sent it, once this is resolved. */
  goWhen?: Promise<unknown>;
  logger: Logger;
  /** Called after each start. */
  started(pid: number): Promise<void>;
}

export interface Child {
  /** What it said when it was first ready; rejects when it ends before. */
  readonly ready: Promise<Record<string, unknown>>;
  /** Sends a signal; false where it does not run. */
  signal(signal: NodeJS.Signals): boolean;
  /** Ends it: SIGTERM now, SIGKILL after a time. Resolves when it has ended. */
  stop(killAfterMs: number): Promise<void>;
}

const RESTART_MS = 250;
const RESTART_MS_MAX = 5_000;
/** A program that lived so long starts its next pauses anew. */
const STABLE_MS = 30_000;
const LAST_WORDS_CHARS = 300;

export function startChild(o: ChildOptions): Child {
  const stopping = new AbortController();
  let running: ChildProcess | null = null;
  const first = outcomeOfStart();
  let wasReady = !o.tells;
  const loop = (async (): Promise<void> => {
    for (let pauseMs = RESTART_MS; !stopping.signal.aborted; pauseMs = Math.min(2 * pauseMs, RESTART_MS_MAX)) {
      const startedMs = performance.now();
      const child = start(o, (said) => {
        wasReady = true;
        first.ready(said);
      });
      running = child;
      const how = await ended(child, o);
      running = null;
      if (stopping.signal.aborted) return;
      first.failed(new BuilderError('bad-config', `expected ${o.name} to start, got: ${await lastWords(o.logFile)}`));
      // What could not start once is told, and nothing else comes of it.
      if (!wasReady) return;
      if (performance.now() - startedMs > STABLE_MS) pauseMs = RESTART_MS;
      o.logger.warn({ child: o.name, how, pauseMs }, 'it ended; starting it again');
      await pause(pauseMs, stopping.signal);
    }
  })();
  const signal = (name: NodeJS.Signals): boolean => running?.kill(name) ?? false;
  return {
    ready: first.promise,
    signal,
    stop: async (killAfterMs) => {
      stopping.abort();
      signal('SIGTERM');
      const timer = setTimeout(() => signal('SIGKILL'), killAfterMs);
      await loop;
      clearTimeout(timer);
    },
  };

  function start(options: ChildOptions, onReady: (said: Record<string, unknown>) => void): ChildProcess {
    const [program = '', ...args] = options.command;
    const log = openSync(options.logFile, 'a', 0o600);
    // A process group of its own: Ctrl-C in a terminal is for `up`, which ends its programs in order.
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env,
      detached: true,
      stdio: ['ignore', log, log, ...(options.tells ? (['ipc'] as const) : [])],
    });
    closeSync(log);
    child.on('message', (message) => {
      const said = message as Record<string, unknown>;
      if (said.ready === true) onReady(said);
      if (typeof said.failed === 'string') first.failed(new BuilderError('bad-config', said.failed));
    });
    // The channel keeps it for a program that does not listen yet; one that has ended needs none.
    options.goWhen?.then(
      () => child.connected && child.send('go', () => undefined),
      () => undefined,
    );
    if (child.pid !== undefined) options.started(child.pid).catch(() => undefined);
    return child;
  }
}

interface Start {
  promise: Promise<Record<string, unknown>>;
  ready(said: Record<string, unknown>): void;
  failed(cause: unknown): void;
}

/** Settled once, by what happens first; later starts change nothing. */
function outcomeOfStart(): Start {
  let settle: Omit<Start, 'promise'> = { ready: () => undefined, failed: () => undefined };
  const promise = new Promise<Record<string, unknown>>((ready, failed) => {
    settle = { ready, failed };
  });
  promise.catch(() => undefined);
  return { promise, ...settle };
}

function ended(child: ChildProcess, o: ChildOptions): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (cause) => {
      o.logger.error({ child: o.name, error: cause.message }, 'it cannot be started');
      resolve(cause.message);
    });
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
}

/** The last line that a program wrote before it ended. */
async function lastWords(logFile: string): Promise<string> {
  const text = await readFile(logFile, 'utf8').catch(() => '');
  const line = text.trimEnd().split('\n').at(-1) ?? '';
  return line === '' ? 'no word' : line.slice(-LAST_WORDS_CHARS);
}
