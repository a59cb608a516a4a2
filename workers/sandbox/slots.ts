/** The processes that start sandboxes: each runs slot.pl, serves one run at a time, and stays for the next. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { limits } from '../../src/job/limits.ts';
import { BuilderError } from '../../src/service/errors.ts';

export interface Slot {
  send(content: Buffer | string): void;
  /** Takes each line from now on, and the slot's end with its last words; that comes once at most. */
  listen(listener: SlotListener): void;
  /** Nothing of its run is left: another run may have it. */
  release(): void;
}

export interface SlotListener {
  onLine(line: string): void;
  onEnd(lastWords: string): void;
}

export interface Slots {
  take(): Slot;
}

const PERL = '/usr/bin/perl';
const PROGRAM = fileURLToPath(new URL('./slot.pl', import.meta.url));
const INIT = fileURLToPath(new URL('./init.pl', import.meta.url));
/** The number of prctl(2); on another machine orphans go elsewhere, and only a namespace keeps them. */
const PRCTL: Partial<Record<NodeJS.Architecture, number>> = {
  x64: 157,
  arm64: 167,
  riscv64: 167,
  ppc64: 171,
  s390x: 172,
  ia32: 172,
  arm: 172,
};

export function createSlots(): Slots {
  const idle: Slot[] = [];
  const forget = (slot: Slot): void => {
    const at = idle.indexOf(slot);
    if (at >= 0) idle.splice(at, 1);
  };
  return {
    take: () => idle.pop() ?? startSlot((slot) => void idle.push(slot), forget),
  };
}

/**
 * node:child_process and not execa, which would have to be told to do nothing. Neither the process nor its socket keeps the worker alive;
 * with its socket it ends.
 */
function startSlot(onIdle: (slot: Slot) => void, onEnd: (slot: Slot) => void): Slot {
  const number = PRCTL[process.arch];
  if (number === undefined) throw new BuilderError('bad-config', `expected a machine that builder knows, got ${process.arch}`);
  const child = spawn(PERL, [PROGRAM, INIT, String(number)], {
    cwd: '/',
    env: {},
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  const socket = child.stdio[3] as (Duplex & { unref(): void }) | null | undefined;
  if (!socket) throw new BuilderError('internal', 'expected to start a process for a run, got no room for another one');
  let listener: SlotListener | null = null;
  const slot: Slot = {
    send: (content) => void socket.write(content),
    listen: (given) => {
      listener = given;
    },
    release: () => {
      listener = null;
      if (child.exitCode === null && child.signalCode === null) onIdle(slot);
    },
  };
  const complaints = lastWords(child);
  let ended = false;
  const end = (why: string): void => {
    if (ended) return;
    ended = true;
    onEnd(slot);
    listener?.onEnd(why);
    socket.destroy();
  };
  child.once('error', (cause) => end(`it cannot be started: ${cause.message}`));
  child.once('close', () => end(complaints()));
  socket.on('error', () => undefined);
  readLines(socket, (line) => listener?.onLine(line));
  child.unref();
  socket.unref();
  return slot;
}

function readLines(socket: Duplex, onLine: (line: string) => void): void {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
}

function lastWords(child: ChildProcess): () => string {
  const stream = child.stdio[2] as Readable & { unref(): void };
  let said = '';
  stream.setEncoding('utf8');
  stream.on('error', () => undefined);
  stream.on('data', (text: string) => {
    said = (said + text).slice(-limits.sandboxErrorBytesMax);
  });
  stream.unref();
  return () => said.trim().split('\n').at(-1) || 'nothing said';
}
