/** A script under an init of ours (init.pl), which the launcher starts: as PID 1 of a namespace that a wrapper makes, or beside it. */
import { limits } from '../../src/job/limits.ts';
import type { Killed } from '../../src/job/run.ts';
import { BuilderError } from '../../src/service/errors.ts';
import type { Channel, Launcher } from './launcher.ts';
import { type Launch, type LeaderEnd, leaderEndOf, type StartedScript } from './sandbox.ts';

/** What init has told so far. */
interface Told {
  killed: Killed[];
  held: boolean;
  done: boolean;
  /** How many it could not kill in time. */
  stuck: number;
}

/** What a wrapper is to start as PID 1: init.pl is its descriptor 6, since the sandbox may hide where it lies. */
const INIT = ['/usr/bin/perl', '/proc/self/fd/6'];

/** `wrapper`: bwrap or unshare with its arguments up to the program that is to be PID 1; null for none. */
export async function startUnderInit(launcher: Launcher, wrapper: readonly string[] | null, launch: Launch): Promise<StartedScript> {
  const told: Told = { killed: [], held: false, done: false, stuck: 0 };
  const ended = withResolvers<LeaderEnd>();
  const gone = withResolvers<void>();
  // Most await one of the two, and some neither.
  for (const one of [ended, gone]) one.promise.catch(() => undefined);
  const command = wrapper === null ? [] : [...wrapper, ...INIT];
  const outputs = [launch.stdout, launch.stderr, ...launch.enter];
  const fields = [command.length, ...command, launch.mark, outputs.length, ...outputs, ...initFields(launch)];
  const channel = await launcher.launch(fields, {
    onLine: (line) => takeReport(line, told, ended.resolve),
    onGone: (lastWords) => {
      const fault = faultOf(told, wrapper?.[0] ?? 'none', lastWords);
      if (fault === null) return gone.resolve();
      ended.reject(fault);
      gone.reject(fault);
    },
  });
  return {
    leader: ended.promise,
    terminate: () => channel.tell('t'),
    finish: async (kill) => {
      const stop = killOnAbort(kill, channel);
      try {
        await gone.promise;
      } finally {
        stop();
      }
      return { killed: told.killed, held: told.held };
    },
  };
}

function initFields(launch: Launch): (string | number)[] {
  const bounds = [
    limits.killedListedMax,
    limits.killedCommandCharsMax * 4,
    limits.leftoverPollMs,
    limits.leftoverPollMsMax,
    limits.sweepMsMax,
  ];
  const loopback = launch.network === 'none' ? 1 : 0;
  const environment = Object.entries(launch.env).map(([name, value]) => `${name}=${value}`);
  return [loopback, launch.enter.length, limits.scriptNice, ...bounds, launch.folder, launch.argv.length, ...launch.argv, ...environment];
}

function takeReport(line: string, told: Told, onEnded: (end: LeaderEnd) => void): void {
  const [, word, number, command = ''] = /^(\w+) (\d+) ?(.*)$/s.exec(line) ?? [];
  if (word === 'ended') onEnded(leaderEndOf(Number(number)));
  if (word === 'killed') told.killed.push({ pid: Number(number), command: [...command].slice(0, limits.killedCommandCharsMax).join('') });
  if (word === 'stuck') told.stuck = Number(number);
  if (word !== 'done') return;
  told.held = number === '1';
  told.done = true;
}

function faultOf(told: Told, sandbox: string, lastWords: string): BuilderError | null {
  if (told.done) return null;
  if (told.stuck > 0) return new BuilderError('internal', `expected every process of the run to die, got ${told.stuck} that live`);
  return new BuilderError('internal', `expected the sandbox ${sandbox} to outlive the script, got its end: ${lastWords}`);
}

/** Init kills and tells; should it not, the end of the sandbox's first process ends the namespace. */
function killOnAbort(kill: AbortSignal, channel: Channel): () => void {
  let timer: NodeJS.Timeout | undefined;
  const act = (): void => {
    channel.tell('k');
    timer = setTimeout(() => channel.tell('K'), limits.initAnswerMsMax);
  };
  if (kill.aborted) act();
  else kill.addEventListener('abort', act, { once: true });
  return () => {
    clearTimeout(timer);
    kill.removeEventListener('abort', act);
  };
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (cause: unknown) => void } {
  let resolve: (value: T) => void = () => undefined;
  let reject: (cause: unknown) => void = () => undefined;
  const promise = new Promise<T>((...given) => {
    [resolve, reject] = given;
  });
  return { promise, resolve, reject };
}
