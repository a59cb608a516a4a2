/** The worker's side of launcher.pl, which starts the sandboxes of its runs: one process, started at the first run and again if it ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { limits } from '../../src/job/limits.ts';
import { BuilderError } from '../../src/service/errors.ts';

export interface Channel {
  /** To its init: SIGTERM to all, kill what is left; or, to the launcher, kill the sandbox's first group. */
  tell(letter: 't' | 'k' | 'K'): void;
}

export interface Listener {
  /** A line of init's. */
  onLine(line: string): void;
  /** Nothing of the sandbox is left; its last words. Called once. */
  onGone(lastWords: string): void;
}

export interface Launcher {
  /** Resolves when the sandbox is started: it has its own descriptors of the output then. Throws BuilderError `internal`. */
  launch(fields: readonly (string | number)[], listener: Listener): Promise<Channel>;
}

const PERL = '/usr/bin/perl';
const PROGRAM = fileURLToPath(new URL('./launcher.pl', import.meta.url));
const INIT = fileURLToPath(new URL('./init.pl', import.meta.url));

interface Run extends Listener {
  started(fault: string | null): void;
}

interface Running {
  child: ChildProcess;
  socket: Duplex;
  runs: Map<number, Run>;
}

export function createLauncher(): Launcher {
  let running: Running | null = null;
  let count = 0;
  return {
    launch: async (fields, listener) => {
      running ??= startLauncher((ended) => {
        if (running === ended) running = null;
      });
      const { socket, runs } = running;
      count += 1;
      const id = count;
      const fault = await new Promise<string | null>((resolve) => {
        runs.set(id, { ...listener, started: resolve });
        const payload = Buffer.from(fields.map((field) => `${field}\0`).join(''));
        socket.write(`${id} launch ${payload.length}\n`);
        socket.write(payload);
      });
      if (fault !== null) throw new BuilderError('internal', `expected to start a sandbox, got: ${fault}`);
      return { tell: (letter) => void (runs.has(id) && socket.write(`${id} ${letter}\n`)) };
    },
  };
}

/** node:child_process and not execa, which would have to be told to do nothing. Neither the process nor its socket keeps the worker alive. */
function startLauncher(onEnd: (ended: Running) => void): Running {
  const child = spawn(PERL, [PROGRAM, INIT], { cwd: '/', env: {}, detached: true, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  const socket = child.stdio[3] as Duplex & { unref(): void };
  if (!socket) throw new BuilderError('internal', 'expected to start the launcher of sandboxes, got no room for another process');
  const complaints = child.stdio[2] as Readable & { unref(): void };
  for (const one of [child, socket, complaints]) one.unref();
  const running: Running = { child, socket, runs: new Map() };
  let said = '';
  complaints.setEncoding('utf8');
  complaints.on('data', (text: string) => {
    said = (said + text).slice(-limits.sandboxErrorBytesMax);
  });
  const end = (why: string): void => {
    onEnd(running);
    for (const run of running.runs.values()) {
      run.started(why);
      run.onGone(why);
    }
    running.runs.clear();
    socket.destroy();
  };
  for (const stream of [socket, complaints]) stream.on('error', () => undefined);
  child.once('error', (cause) => end(`the launcher cannot be started: ${cause.message}`));
  child.once('close', () => end(`the launcher has ended: ${said.trim().split('\n').at(-1) || 'nothing said'}`));
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) take(running.runs, line);
  });
  return running;
}

function take(runs: Map<number, Run>, line: string): void {
  const [, number, word, text = ''] = /^(\d+) (\w+) ?(.*)$/s.exec(line) ?? [];
  const id = Number(number);
  const run = runs.get(id);
  if (run === undefined) return;
  if (word === 'failed' || word === 'gone') runs.delete(id);
  if (word === 'started') run.started(null);
  else if (word === 'failed') run.started(text);
  else if (word === 'gone') run.onGone(text || 'nothing said');
  else run.onLine(`${word} ${text}`);
}
