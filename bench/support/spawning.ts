/** The bare operation: starting a process and waiting for its end, a number of them at a time. */
import { type ChildProcess, spawn } from 'node:child_process';
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

export function bareSpawns(o: { runs: number; atOnce: number }): Contender[] {
  return Object.entries(WAYS).map(([name, start]) => ({
    name: `Node ${name}`,
    kind: 'limit',
    setting: `${o.atOnce} at a time, ${TRUE.join(' ')}`,
    open: async () => ({
      measure: async () => ({ rate: await spawnRate(() => start(TRUE), o.runs, o.atOnce) }),
      close: async () => undefined,
    }),
  }));
}

/** Runs a command `count` times, `atOnce` at a time; its rate per second. */
export async function spawnRate(start: () => ChildProcess, count: number, atOnce: number): Promise<number> {
  let left = count;
  let failed = 0;
  const lane = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      if ((await ended(start())) !== 0) failed += 1;
    }
  };
  const begunAtMs = performance.now();
  await Promise.all(Array.from({ length: atOnce }, lane));
  const tookMs = performance.now() - begunAtMs;
  if (failed > 0) throw new Void(`expected exit code 0 of ${count} processes, got another of ${failed}`);
  return (count * 1000) / tookMs;
}

export function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
}
