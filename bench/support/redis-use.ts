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

/** Requests that clients send a second, over a time; commands inside scripts, which `total_commands_processed` counts too, are not among them. */
export async function requestsPerSecond(redis: Redis, forMs: number): Promise<number> {
  const monitor = await redis.monitor();
  let requests = 0;
  monitor.on('monitor', (_time: string, _args: string[], source: string) => {
    if (source !== 'lua') requests += 1;
  });
  await delay(forMs);
  monitor.disconnect();
  return (requests * 1_000) / forMs;
}
