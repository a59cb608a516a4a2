/** Telling followers of a run to look again. */
import { limits } from '../job/limits.ts';
import type { Redis } from './connection.ts';
import { keys, shardOf } from './keys.ts';

export async function wakeFollowers(redis: Redis, run: string): Promise<void> {
  await redis.xadd(keys.wake(shardOf(run)), 'MAXLEN', '~', limits.wakeEntriesMax, '*', 'r', run);
}
