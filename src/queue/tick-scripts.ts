/** The Lua scripts that decide and count ticks. What is decided of a tick is kept with BullMQ's job of it, so that it is decided and counted once. */
import { script } from '../redis/script.ts';
import { NOW } from './record-scripts.ts';

/** A tick under way must leave nothing of a job that is removed meanwhile, nor to another of its name. KEYS …, jobs. ARGV …, name, id of the definition */
const GONE = `
local stored = redis.call('HGET', KEYS[#KEYS], ARGV[#ARGV - 1])
local isGone = not stored or cjson.decode(stored).id ~= ARGV[#ARGV]
`;

/**
 * KEYS BullMQ's job of the tick, ticks of the job, launches of the job, jobs. ARGV tick (ms), `countedMs` as it was read ('' for none),
 * verdict (run | misfire), newly missed, last of them (ms, '' for none), `countedMs` from now on ('' leaves it), launches allowed,
 * within (ms), name, id of the definition → {run | misfire | fuse, new | known, 1 for the first that the fuse holds back within that time}
 * | {changed}: somebody has counted meanwhile | {gone}: the job is no more
 */
export const admitTickScript = script(`
${GONE}
if isGone then return {'gone'} end
local known = redis.call('HGET', KEYS[1], 'builder:verdict')
if known then return {known, 'known'} end
if (redis.call('HGET', KEYS[2], 'countedMs') or '') ~= ARGV[2] then return {'changed'} end
local verdict, first = ARGV[3], 0
if verdict == 'run' then
  ${NOW}
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', nowMs - ARGV[8])
  -- A clock that was set back must not hold the schedule up.
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '(' .. nowMs, '+inf')
  if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[7]) then
    verdict = 'fuse'
    redis.call('HINCRBY', KEYS[2], 'fused', 1)
    redis.call('HSET', KEYS[2], 'fusedMs', ARGV[1])
    local sinceMs = nowMs - tonumber(redis.call('HGET', KEYS[2], 'fuseToldMs') or '-inf')
    if sinceMs < 0 or sinceMs > tonumber(ARGV[8]) then
      first = 1
      redis.call('HSET', KEYS[2], 'fuseToldMs', nowMs)
    end
  else
    redis.call('ZADD', KEYS[3], nowMs, ARGV[1])
    redis.call('PEXPIRE', KEYS[3], ARGV[8])
  end
end
if tonumber(ARGV[4]) > 0 then
  redis.call('HINCRBY', KEYS[2], 'missed', ARGV[4])
  redis.call('HSET', KEYS[2], 'missedMs', ARGV[5])
end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[2], 'countedMs', ARGV[6]) end
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'builder:verdict', verdict) end
return {verdict, 'new', first}
`);

/** KEYS BullMQ's job of the tick, ticks of the job, jobs. ARGV tick (ms), LastTick (JSON), `skipped` to count it as such, name, id of the definition → 1 | 0 the job is no more */
export const noteTickScript = script(`
${GONE}
if isGone then return 0 end
redis.call('HSET', KEYS[2], 'last', ARGV[2])
if ARGV[3] ~= 'skipped' then return 1 end
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HSETNX', KEYS[1], 'builder:skipped', 1) == 0 then return 1 end
redis.call('HINCRBY', KEYS[2], 'skipped', 1)
redis.call('HSET', KEYS[2], 'skippedMs', ARGV[1])
return 1
`);
