/** Which platforms are known, and which take no runs. */
import { keys } from '../redis/keys.ts';
import type { Queues } from './queues.ts';

export async function knownPlatforms(queues: Queues): Promise<string[]> {
  return (await queues.redis.smembers(keys.platforms)).sort();
}

export async function droppedPlatforms(queues: Queues): Promise<string[]> {
  return (await queues.redis.smembers(keys.droppedPlatforms)).sort();
}
