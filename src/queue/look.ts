/** What servers ask Redis every second, in one question: most of the time the answer is that there is nothing to do. */
import { limits } from '../job/limits.ts';
import { keys } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import type { Queues } from './queues.ts';
import { KEEP_TIMES, KEEPING } from './retries.ts';

/** Of each list at a time. */
const PAGE = 500;

/**
 * KEYS retries, clock, identity, accepting, cancelling. ARGV how far the clock may go back, and on (ms), an id for a Redis that has none, age of
 * what is half accepted (ms), page → {id, beats, Redis's clock (ms), half accepted, to be cancelled, due retries}
 */
const lookScript = script(`
${KEEP_TIMES}
local id = redis.call('HGET', KEYS[3], 'id')
if not id then
  id = ARGV[3]
  redis.call('HSET', KEYS[3], 'id', id)
end
local beats = redis.call('HINCRBY', KEYS[3], 'beats', 1)
if redis.call('EXISTS', KEYS[1], KEYS[4], KEYS[5]) == 0 then return {id, beats, nowMs, {}, {}, {}} end
local function older(key, ageMs) return redis.call('ZRANGEBYSCORE', key, '-inf', nowMs - ageMs, 'LIMIT', 0, ARGV[5]) end
return {id, beats, nowMs, older(KEYS[4], tonumber(ARGV[4])), older(KEYS[5], 0), older(KEYS[1], 0)}
`);

export interface Seen {
  /** Of this Redis, and how often servers have looked. */
  id: string;
  beats: number;
  /** Its clock (ms since the epoch). */
  redisMs: number;
  /** Runs whose BullMQ job may be missing, that are to be cancelled, and whose next attempt is due. */
  accepting: string[];
  cancelling: string[];
  retries: string[];
}

/** `newId` names a Redis that has no id yet. */
export async function look({ redis }: Queues, newId: string): Promise<Seen> {
  const asked = [keys.retries, keys.clock, keys.identity, keys.accepting, keys.cancelling];
  const args = [...KEEPING, newId, limits.acceptingGraceMs, PAGE];
  const [id, beats, redisMs, accepting, cancelling, retries] = (await runScript(redis, lookScript, asked, args)) as [
    ...[string, number, number],
    ...[string[], string[], string[]],
  ];
  return { id, beats, redisMs, accepting, cancelling, retries };
}
