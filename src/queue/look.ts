/** What servers ask Redis every second, in one question: most of the time the answer is that there is nothing to do. */
import { limits } from '../job/limits.ts';
import { keys } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import type { Queues } from './queues.ts';
import { NOW } from './record-scripts.ts';
import { KEEP_TIMES, KEEPING } from './retries.ts';
import { SERVED_SINCE } from './served.ts';

/** Of each list at a time. */
const PAGE = 500;

/**
 * KEYS retries, watch, accepting, cancelling. ARGV how far the clock may go back, and on (ms), an id for a Redis that has none, silence that is none
 * (ms), age of what is half accepted (ms), page → {id, beats, Redis's clock (ms), half accepted, to be cancelled, due retries}
 */
const lookScript = script(`
${NOW}${KEEP_TIMES}${SERVED_SINCE}
local known = redis.call('HMGET', KEYS[2], 'id', 'beats', 'at', 'since', 'clock')
local id, beats = known[1] or ARGV[3], tonumber(known[2] or '0') + 1
local since = servedSince(known[3], known[4], ARGV[4])
redis.call('HSET', KEYS[2], 'id', id, 'beats', beats, 'at', nowMs, 'since', since, 'clock', nowMs)
keepTimes(KEYS[1], known[5])
if redis.call('EXISTS', KEYS[1], KEYS[3], KEYS[4]) == 0 then return {id, beats, nowMs, {}, {}, {}} end
local function older(key, ageMs) return redis.call('ZRANGEBYSCORE', key, '-inf', nowMs - ageMs, 'LIMIT', 0, ARGV[6]) end
return {id, beats, nowMs, older(KEYS[3], tonumber(ARGV[5])), older(KEYS[4], 0), older(KEYS[1], 0)}
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
  const asked = [keys.retries, keys.watch, keys.accepting, keys.cancelling];
  const args = [...KEEPING, newId, limits.redisSilentMs, limits.acceptingGraceMs, PAGE];
  const [id, beats, redisMs, accepting, cancelling, retries] = (await runScript(redis, lookScript, asked, args)) as [
    ...[string, number, number],
    ...[string[], string[], string[]],
  ];
  return { id, beats, redisMs, accepting, cancelling, retries };
}
