/** The bare operation: starting a process and waiting for its end, a number of them at a time. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type Contender, Void } from '../figure.ts';

export type Command = readonly [string, ...string[]];

export const TRUE: Command = ['/bin/sh', '-c', 'true'];

export type Way = (command: Command) => ChildProcess;

/** What a worker gives a script at least. */
const SMALL_ENVIRONMENT = { PATH: '/usr/bin:/bin' };

/** Several honest ways to write it. */
export const WAYS: Record<string, Way> = {
  'spawn, output ignored': ([program, ...args]) => spawn(program, args, { stdio: 'ignore' }),
  'spawn, output read': ([program, ...args]) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout?.resume();
    child.stderr?.resume();
    return child;
  },
  'spawn, small environment': ([program, ...args]) => spawn(program, args, { stdio: 'ignore', env: SMALL_ENVIRONMENT }),
};

/** Asked for in one process and done in another: `way` is one of WAYS. */
export interface SpawnRate {
  way: string;
  command: Command;
  runs: number;
  atOnce: number;
}

export function bareSpawns(o: { runs: number; atOnce: number }): Contender[] {
  return Object.keys(WAYS).map((way) => ({
    name: `Node ${way}`,
    kind: 'limit',
    setting: `${o.atOnce} at a time by a Node process that does nothing else, ${TRUE.join(' ')}`,
    open: async () => {
      const spawner = await startSpawner();
      return { measure: async () => ({ rate: await spawner.rate({ way, command: TRUE, ...o }) }), close: spawner.close };
    },
  }));
}

export interface Spawner {
  /** Processes a second. Throws Void unless all of them ended with 0. */
  rate(asked: SpawnRate): Promise<number>;
  close(): Promise<void>;
}

const SPAWNER = fileURLToPath(new URL('spawner.js', import.meta.url));

/** The bench itself has all its contenders open, and would be a slower starter. */
export async function startSpawner(): Promise<Spawner> {
  const child = fork(SPAWNER);
  const gone = once(child, 'exit').then(() => Promise.reject(new Void('expected a process that starts others, got its end')));
  gone.catch(() => undefined);
  const message = async (): Promise<unknown> => (await Promise.race([once(child, 'message'), gone]))[0];
  await message();
  return {
    rate: async (asked) => {
      const answer = message();
      child.send(asked);
      const rate = await answer;
      if (typeof rate !== 'number') throw new Void(String(rate));
      return rate;
    },
    close: async () => {
      child.disconnect();
      await gone.catch(() => undefined);
    },
  };
}

/** Runs a command `runs` times, `atOnce` at a time; its rate per second. */
export async function spawnRate({ way, command, runs, atOnce }: SpawnRate): Promise<number> {
  const start = WAYS[way] as Way;
  let left = runs;
  let failed = 0;
  const lane = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      if ((await ended(start(command))) !== 0) failed += 1;
    }
  };
  const begunAtMs = performance.now();
  await Promise.all(Array.from({ length: atOnce }, lane));
  const tookMs = performance.now() - begunAtMs;
  if (failed > 0) throw new Void(`expected exit code 0 of ${runs} processes, got another of ${failed}`);
  return (runs * 1000) / tookMs;
}

export function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
}
