/** A script inside a PID namespace: the wrapper (bwrap, unshare) starts init.pl there, which is spoken with over one socket. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { limits } from '../../src/job/limits.ts';
import type { Killed } from '../../src/job/run.ts';
import { BuilderError, oneLine } from '../../src/service/errors.ts';
import { type Finished, type Launch, type LeaderEnd, leaderEndOf, type StartedScript } from './sandbox.ts';

export interface Wrapper {
  program: string;
  /** Its arguments up to the program that is to be PID 1. */
  args: string[];
  /** init.pl, open for reading: the sandbox may hide where it lies. */
  initFd: number;
}

/** What init has told so far. */
interface Told {
  killed: Killed[];
  held: boolean;
  done: boolean;
}

const PERL = '/usr/bin/perl';
const INIT = [PERL, '/proc/self/fd/6'];

export function startUnderInit(wrapper: Wrapper, launch: Launch): StartedScript {
  const child = spawnWrapper(wrapper, launch);
  if (!child.stdio?.[3]) throw new BuilderError('internal', `expected to start ${wrapper.program}, got no room for another process`);
  const control = child.stdio[3] as Duplex;
  const told: Told = { killed: [], held: false, done: false };
  const complaints = lastWords(child.stdio[2] as Readable);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const spawnFault = new Promise<Error>((resolve) => child.once('error', resolve));
  const failed = Promise.race([closed.then(complaints), spawnFault.then(oneLine)]).then((why) => {
    throw new BuilderError('internal', `expected the sandbox ${wrapper.program} to outlive the script, got its end: ${why}`);
  });
  const ended = new Promise<LeaderEnd>((resolve) => readReports(control, told, resolve));
  // The report of the end comes before the wrapper's end in any case; a resolved promise ahead of a rejected one wins the race.
  const leader = Promise.race([ended, failed]);
  leader.catch(() => undefined);
  control.on('error', () => undefined);
  control.write(encodeLaunch(launch));
  const tell = (letter: 't' | 'k'): void => {
    if (!told.done) control.write(letter);
  };
  return {
    leader,
    terminate: () => tell('t'),
    finish: async (kill) => {
      const stopWatching = onceAborted(kill, () => {
        tell('k');
        killUnlessEnded(child);
      });
      try {
        await Promise.race([closed, spawnFault]);
        await leader;
        if (!told.done) throw new BuilderError('internal', `expected init's last report, got the sandbox's end: ${await complaints()}`);
      } finally {
        stopWatching();
        control.destroy();
      }
      return { killed: told.killed, held: told.held } satisfies Finished;
    },
  };
}

/**
 * node:child_process and not execa: this is on the path of every run, and what execa adds (streams, buffers, errors with output)
 * would have to be turned off. Nothing of the script's environment reaches the wrapper, which runs outside of the sandbox.
 */
function spawnWrapper(wrapper: Wrapper, launch: Launch): ChildProcess {
  const [name, value] = launch.mark.split(/=(.*)/s) as [string, string];
  return spawn(wrapper.program, [...wrapper.args, ...INIT], {
    cwd: '/',
    env: { [name]: value },
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', launch.stdout, launch.stderr, wrapper.initFd, ...launch.enter],
  });
}

function encodeLaunch(launch: Launch): Buffer {
  const bounds = [limits.killedListedMax, limits.killedCommandCharsMax * 4, limits.leftoverPollMs, limits.leftoverPollMsMax];
  const loopback = launch.network === 'none' ? 1 : 0;
  const environment = Object.entries(launch.env).map(([name, value]) => `${name}=${value}`);
  const fields = [
    loopback,
    launch.enter.length,
    limits.scriptNice,
    ...bounds,
    launch.folder,
    launch.argv.length,
    ...launch.argv,
    ...environment,
  ];
  const payload = Buffer.from(fields.map((field) => `${field}\0`).join(''));
  return Buffer.concat([Buffer.from(`${payload.length}\n`), payload]);
}

function readReports(control: Duplex, told: Told, onEnded: (end: LeaderEnd) => void): void {
  let rest = '';
  control.setEncoding('utf8');
  control.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, word, number, command] = /^(\w+) (\d+) ?(.*)$/.exec(line) ?? [];
      if (word === 'ended') onEnded(leaderEndOf(Number(number)));
      if (word === 'killed')
        told.killed.push({ pid: Number(number), command: [...(command ?? '')].slice(0, limits.killedCommandCharsMax).join('') });
      if (word === 'done') {
        told.held = number === '1';
        told.done = true;
        control.end();
      }
    }
  });
}

/** Init kills and tells; should it not, the end of the wrapper's group (init is in it) ends the namespace. */
function killUnlessEnded(child: ChildProcess): void {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const timer = setTimeout(() => killGroup(child), limits.initAnswerMsMax);
  child.once('close', () => clearTimeout(timer));
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}

function onceAborted(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act();
  else signal.addEventListener('abort', act, { once: true });
  return () => signal.removeEventListener('abort', act);
}

function lastWords(stream: Readable): () => Promise<string> {
  let said = '';
  stream.setEncoding('utf8');
  stream.on('error', () => undefined);
  stream.on('data', (text: string) => {
    said = (said + text).slice(-limits.sandboxErrorBytesMax);
  });
  return async () => said.trim().split('\n').at(-1) || 'nothing said';
}
