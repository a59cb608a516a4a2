/** Redis's clock: the one that all servers and workers see. */
import type { Redis } from './connection.ts';

/** Milliseconds since the epoch. */
export async function redisNowMs(redis: Redis): Promise<number> {
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
}
