/** What Redis has in memory, and what it is asked. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from '../../src/redis/connection.ts';

/** `used_memory` once it stands still: tables that grow are moved in steps, what is written to the file waits a second. */
export async function usedBytes(redis: Redis): Promise<number> {
  let before = Number.NaN;
  for (;;) {
    const now = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
    if (Math.abs(now - before) < 64 * 1024) return now;
    before = now;
    await delay(300);
  }
}

/** A second. */
export interface Asked {
  /** What clients send. */
  requests: number;
  /** What Redis executes: those, and the commands inside scripts. */
  commands: number;
}

/** What Redis is asked over a time, without what this asks itself. */
export async function askedOver(redis: Redis, forMs: number): Promise<Asked> {
  const monitor = await redis.monitor();
  let requests = 0;
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    const isOurs = args.join(' ').toLowerCase() === OURS;
    if (source !== 'lua' && !isOurs) requests += 1;
  });
  const before = await processedCommands(redis);
  await delay(forMs);
  // It is counted once it has answered: the first of the two is among those of the time, the second is not.
  const commands = (await processedCommands(redis)) - before - 1;
  monitor.disconnect();
  return { requests: (requests * 1_000) / forMs, commands: (commands * 1_000) / forMs };
}

/** No program of builder asks for this section. */
const OURS = 'info stats';

async function processedCommands(redis: Redis): Promise<number> {
  return Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))?.[1]);
}
