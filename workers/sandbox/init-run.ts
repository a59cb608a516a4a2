/** A script under an init of ours (init.pl), which a slot starts: as PID 1 of a namespace that a wrapper or the slot makes, or in the slot itself. */
import { closeSync } from 'node:fs';
import { limits } from '../../src/job/limits.ts';
import type { Killed } from '../../src/job/run.ts';
import { BuilderError } from '../../src/service/errors.ts';
import { type Launch, type LeaderEnd, leaderEndOf, SandboxEnded, type SandboxName, type StartedScript } from './sandbox.ts';
import { priorityOfScripts, type Slot, type Slots } from './slots.ts';
import { callsOfStarting } from './system-calls.ts';

/** What slot and init have told so far. */
interface Told {
  begun: boolean;
  killed: Killed[];
  held: boolean;
  done: boolean;
  /** How many it could not kill in time. */
  stuck: number;
  /** The wrapper's or PID 1's, which is the number of its group; 0 without either. */
  pid: number;
}

/** What a wrapper is to start as PID 1: init.pl is its descriptor 6, since the sandbox may hide where it lies. */
export const INIT_WORDS = ['/usr/bin/perl', '/proc/self/fd/6'];

/** How a slot is to start init. */
export interface Way {
  sandbox: SandboxName;
  /** A wrapper's command; in a room what the run sees (namespaces.pl); none for a script without namespaces. */
  words: readonly string[];
  /** A script inside cannot take the socket that PID 1 has: then its slot serves other runs too. */
  isSealed: boolean;
}

/** `otherwise`: where one slot after the other has left before it could begin. */
export async function startUnderInit(
  slots: Slots,
  way: Way,
  launch: Launch,
  otherwise?: () => Promise<StartedScript>,
): Promise<StartedScript> {
  for (let stale = 0; ; stale += 1) {
    if (otherwise !== undefined && stale === limits.staleSlotsMax) return otherwise();
    const started = await startIn(await slots.take(), way, launch);
    if (started !== 'stale') return started;
  }
}

/** `stale` where the slot does not serve any more, and has done nothing. */
async function startIn(slot: Slot, way: Way, launch: Launch): Promise<StartedScript | 'stale'> {
  // It has others once it is free again.
  const { stdout, stderr } = slot;
  const told: Told = { begun: false, killed: [], held: false, done: false, stuck: 0, pid: 0 };
  const [started, ended, gone] = [withResolvers<'started' | 'stale'>(), withResolvers<LeaderEnd>(), withResolvers<void>()];
  // Some are awaited by nobody.
  for (const { promise } of [ended, gone]) promise.catch(() => undefined);
  const end = (lastWords: string): void => {
    const fault = faultOf(told, way.sandbox, lastWords);
    if (fault === null) gone.resolve();
    else for (const one of [started, ended, gone]) one.reject(fault);
  };
  const onLine = (line: string): void => {
    const { word, number, text } = wordsOf(line);
    if (word === 'started') {
      told.pid = number;
      started.resolve('started');
    } else if (word === 'stale') started.resolve('stale');
    else if (word === 'failed') {
      slot.release();
      started.reject(new BuilderError('internal', `expected to start a sandbox, got: ${text}`));
    } else if (word === 'gone') {
      // A wrapper that failed may have left its init's part of the launch unread.
      if (told.done && way.isSealed) slot.release();
      else slot.discard();
      end(text || 'nothing said');
    } else if (word === 'ended') ended.resolve(leaderEndOf(number));
    else takeReport(told, line);
  };
  slot.listen({ onLine, onEnd: end });
  slot.send(Buffer.concat([frame(slotFields(way, launch)), frame(initFields(launch))]));
  const answer = await started.promise.catch((cause) => cause);
  if (answer !== 'started') {
    for (const fd of [stdout, stderr]) closeSync(fd);
    if (answer !== 'stale') throw answer;
    return answer;
  }
  return {
    stdout,
    stderr,
    hasBegun: () => told.begun,
    leader: ended.promise,
    terminate: () => {
      if (!told.done) slot.send('t');
    },
    finish: async (kill) => {
      const stop = killOnAbort(kill, slot, told);
      await gone.promise.finally(stop);
      return { killed: told.killed, held: told.held };
    },
  };
}

function slotFields({ words }: Way, launch: Launch): (string | number)[] {
  return [launch.enter.length, ...launch.enter, launch.mark, ...words];
}

function initFields(launch: Launch): (string | number)[] {
  const { killedListedMax, killedCommandCharsMax, leftoverPollMs, leftoverPollMsMax, sweepMsMax } = limits;
  const bounds = [killedListedMax, killedCommandCharsMax * 4, leftoverPollMs, leftoverPollMsMax, sweepMsMax];
  const loopback = launch.network === 'none' ? 1 : 0;
  const environment = Object.entries(launch.env).map(([name, value]) => `${name}=${value}`);
  return [
    loopback,
    launch.enter.length,
    callsOfStarting(),
    priorityOfScripts(),
    ...bounds,
    launch.folder,
    launch.argv.length,
    ...launch.argv,
    ...environment,
  ];
}

function frame(fields: (string | number)[]): Buffer {
  const payload = Buffer.from(fields.map((field) => `${field}\0`).join(''));
  return Buffer.concat([Buffer.from(`${payload.length}\n`), payload]);
}

function wordsOf(line: string): { word: string; number: number; text: string } {
  const [, word = '', text = ''] = /^(\w+) ?(.*)$/s.exec(line) ?? [];
  return { word, number: Number.parseInt(text, 10), text };
}

function takeReport(told: Told, line: string): void {
  const { word, number, text } = wordsOf(line);
  const command = text.slice(text.indexOf(' ') + 1);
  if (word === 'killed') told.killed.push({ pid: number, command: [...command].slice(0, limits.killedCommandCharsMax).join('') });
  if (word === 'stuck') told.stuck = number;
  if (word === 'begun') told.begun = true;
  if (word !== 'done') return;
  told.held = number === 1;
  told.done = true;
}

function faultOf(told: Told, sandbox: string, lastWords: string): BuilderError | null {
  if (told.done) return null;
  if (told.stuck > 0) return new BuilderError('internal', `expected every process of the run to die, got ${told.stuck} that live`);
  return new SandboxEnded(sandbox, lastWords);
}

/** Init kills and tells; should it not, the end of the wrapper's group (init is in it) ends the namespace. */
function killOnAbort(kill: AbortSignal, slot: Slot, told: Told): () => void {
  let timer: NodeJS.Timeout | undefined;
  const act = (): void => {
    if (!told.done) slot.send('k');
    timer = setTimeout(() => killFirst(told.pid, slot), limits.initAnswerMsMax);
  };
  if (kill.aborted) act();
  else kill.addEventListener('abort', act, { once: true });
  return () => {
    clearTimeout(timer);
    kill.removeEventListener('abort', act);
  };
}

/** The group of the wrapper or PID 1, and the slot: it may wait for what the kernel does not let go, or be stopped by its own script. */
function killFirst(pid: number, slot: Slot): void {
  try {
    if (pid !== 0) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
  slot.kill();
}

interface Resolvers<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(cause: unknown): void;
}

function withResolvers<T>(): Resolvers<T> {
  let resolve: (value: T) => void = () => undefined;
  let reject: (cause: unknown) => void = () => undefined;
  const promise = new Promise<T>((...given) => {
    [resolve, reject] = given;
  });
  return { promise, resolve, reject };
}
