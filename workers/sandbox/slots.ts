/** The processes that start sandboxes: each runs slot.pl, serves one run at a time, and stays for the next. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants as fs, openSync } from 'node:fs';
import { constants, getPriority } from 'node:os';
import type { Duplex, Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { limits } from '../../src/job/limits.ts';
import { BuilderError } from '../../src/service/errors.ts';
import { callsOfStarting } from './system-calls.ts';

export interface Slot {
  /** Pipes to read the output of its run from, which do not block; whoever has taken the slot closes them. */
  stdout: number;
  stderr: number;
  send(content: Buffer | string): void;
  /** Takes each line from now on, and the slot's end with its last words; that comes once at most. After the line `stale` nothing comes. */
  listen(listener: SlotListener): void;
  /** Nothing of its run is left: another run may have it, as soon as it has made new pipes. */
  release(): void;
  /** It has not told that nothing of its run is left: no other run may have it. */
  discard(): void;
  /** SIGKILL, for one that does not answer. */
  kill(): void;
}

export interface SlotListener {
  onLine(line: string): void;
  onEnd(lastWords: string): void;
}

export interface Slots {
  /** Rejects with BuilderError where none can be started. */
  take(): Promise<Slot>;
}

const PERL = '/usr/bin/perl';
const PROGRAM = fileURLToPath(new URL('./slot.pl', import.meta.url));
const INIT = fileURLToPath(new URL('./init.pl', import.meta.url));
const NAMESPACES = fileURLToPath(new URL('./namespaces.pl', import.meta.url));

/** Where slots are that make the namespaces of their runs themselves. */
export interface Room {
  /** What its slots are started by: a program with its arguments up to those of the slot. */
  command: readonly string[];
  /** As named in namespaces.pl. */
  words: readonly string[];
}

/** `room` is null for slots that run where the worker does. */
export function createSlots(room: Room | null = null): Slots {
  const idle: Slot[] = [];
  const waiting: { resolve(slot: Slot): void; reject(cause: unknown): void }[] = [];
  /** Those that will be idle in a moment. */
  let coming = 0;
  /** False for one that was not idle. */
  const forget = (slot: Slot): boolean => {
    const at = idle.indexOf(slot);
    if (at < 0) return false;
    idle.splice(at, 1);
    for (const fd of [slot.stdout, slot.stderr]) closeSync(fd);
    return true;
  };
  const events: SlotEvents = {
    onComing: () => {
      coming += 1;
    },
    onReady: (slot) => {
      coming -= 1;
      const next = waiting.shift();
      if (next === undefined) idle.push(slot);
      else next.resolve(slot);
    },
    onStale: forget,
    onEnd: (slot, lastWords) => {
      if (forget(slot)) return;
      coming -= 1;
      waiting.shift()?.reject(new BuilderError('internal', `expected to start a process for a run, got its end: ${lastWords}`));
    },
  };
  return {
    take: () => {
      const slot = idle.pop();
      if (slot !== undefined) return Promise.resolve(slot);
      return new Promise((resolve, reject) => {
        if (waiting.length >= coming) startSlot(room, events);
        waiting.push({ resolve, reject });
      });
    },
  };
}

interface SlotEvents {
  /** It is started, or free again, and makes its pipes. */
  onComing(): void;
  /** Its pipes are open. */
  onReady(slot: Slot): void;
  /** It serves nobody any more. */
  onStale(slot: Slot): void;
  /** While no run had it. */
  onEnd(slot: Slot, lastWords: string): void;
}

/** As setpriority(2) takes it. */
export function priorityOfScripts(): number {
  return Math.min(getPriority() + limits.scriptNice, constants.priority.PRIORITY_LOW);
}

/**
 * In a room a slot makes way as its scripts do: another process ends them. A slot that is init itself must come before what it ends.
 * node:child_process and not execa, which would have to be told to do nothing.
 */
function spawnSlot(room: Room | null): ChildProcess {
  const words = room === null ? [] : [NAMESPACES, ...room.words];
  const program = [PERL, PROGRAM, INIT, callsOfStarting(), String(room === null ? getPriority() : priorityOfScripts()), ...words];
  const [command = '', ...args] = [...(room?.command ?? []), ...program];
  const mounts = room === null ? [] : [openMounts()];
  const child = spawn(command, args, {
    cwd: '/',
    // Each of its children would look for the functions that it calls first, all anew.
    env: { LD_BIND_NOW: '1' },
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...mounts],
  });
  for (const fd of mounts) closeSync(fd);
  return child;
}

/** Neither the process nor its socket keeps the worker alive; with its socket it ends. */
function startSlot(room: Room | null, events: SlotEvents): void {
  const child = spawnSlot(room);
  // Without a file descriptor to spare there is no pipe either; that comes as an event too, which nobody else hears then.
  child.once('error', () => undefined);
  const socket = child.stdio?.[3] as (Duplex & { unref(): void }) | null | undefined;
  if (!socket) throw noRoom();
  let listener: SlotListener | null = null;
  let isComing = true;
  let isStale = false;
  let isDiscarded = false;
  const discard = (): void => {
    listener = null;
    isDiscarded = true;
    socket.destroy();
  };
  const slot: Slot = {
    stdout: -1,
    stderr: -1,
    send: (content) => void socket.write(content),
    listen: (given) => {
      listener = given;
      if (isStale) given.onLine('stale');
    },
    release: () => {
      listener = null;
      isComing = true;
      events.onComing();
    },
    discard,
    kill: () => void child.kill('SIGKILL'),
  };
  events.onComing();
  const complaints = lastWords(child);
  let ended = false;
  const end = (why: string): void => {
    if (ended || isDiscarded) return;
    ended = true;
    clearTimeout(late);
    if (listener === null) events.onEnd(slot, why);
    else listener.onEnd(why);
    socket.destroy();
  };
  const late = setTimeout(() => fail(`it was not ready after ${limits.slotReadyMsMax} ms`), limits.slotReadyMsMax).unref();
  const fail = (why: string): void => {
    end(why);
    child.kill('SIGKILL');
  };
  child.once('error', (cause) => end(`it cannot be started: ${cause.message}`));
  child.once('close', () => end(complaints()));
  socket.on('error', () => undefined);
  readLines(socket, (line) => {
    if (ended || isDiscarded) return;
    if (line === 'stale') {
      isStale = true;
      events.onStale(slot);
      listener?.onLine(line);
      discard();
    } else if (listener !== null) listener.onLine(line);
    else if (isComing && line.startsWith('pipes ')) {
      isComing = false;
      clearTimeout(late);
      if (openPipes(slot, line)) events.onReady(slot);
      else fail('its pipes cannot be opened');
    }
  });
  child.unref();
  socket.unref();
}

/** The worker's table of mounts, before bwrap looks at it: a change while it does must not be overlooked. */
function openMounts(): number {
  try {
    return openSync('/proc/self/mountinfo', 'r');
  } catch {
    throw noRoom();
  }
}

function noRoom(): BuilderError {
  return new BuilderError('internal', 'expected to start a process for a run, got no room for another one');
}

/** Through /proc each end of a pipe is opened with flags of its own. False where the process has just ended. */
function openPipes(slot: Slot, line: string): boolean {
  const [, pid, out, err] = line.split(' ');
  const flags = fs.O_RDONLY | fs.O_NONBLOCK;
  try {
    slot.stdout = openSync(`/proc/${pid}/fd/${out}`, flags);
  } catch {
    return false;
  }
  try {
    slot.stderr = openSync(`/proc/${pid}/fd/${err}`, flags);
    return true;
  } catch {
    closeSync(slot.stdout);
    return false;
  }
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
