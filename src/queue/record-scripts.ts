/** The Lua scripts that change a run's record; each is one atomic step of the state machine in docs/ARCHITECTURE.md. */
import { RUN_IDS_CHARS } from '../redis/keys.ts';
import { script } from '../redis/script.ts';

export const NOW = `
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
`;

/** Redis packs a hash into a third of the memory while no value has more bytes (hash-max-listpack-value). */
const PACKED_BYTES = 64;

/** Where a spec's later pieces are while its run waits; its first is in `spec`. */
export const SPEC_PIECES = ['spec2', 'spec3', 'spec4'];

const PIECE_NAMES = SPEC_PIECES.map((name) => `'${name}'`).join(', ');

/** Writes the spec of the record `key`: in pieces that Redis packs, unless it is long; a character is never cut. */
const WRITE_SPEC = `
local function writeSpec(key, spec)
  if #spec > ${(SPEC_PIECES.length + 1) * PACKED_BYTES} or string.find(spec, '[\\128-\\255]') then return redis.call('HSET', key, 'spec', spec) end
  redis.call('HSET', key, 'spec', string.sub(spec, 1, ${PACKED_BYTES}))
  for n, name in ipairs({${PIECE_NAMES}}) do
    local piece = string.sub(spec, n * ${PACKED_BYTES} + 1, (n + 1) * ${PACKED_BYTES})
    if piece ~= '' then redis.call('HSET', key, name, piece) end
  end
end
`;

/** Makes the spec of the record KEYS[1] one again: with what is written next Redis packs the hash no more, and each field costs. */
const JOIN_SPEC = `
local pieces = redis.call('HMGET', KEYS[1], 'spec', ${PIECE_NAMES})
if pieces[2] then
  redis.call('HSET', KEYS[1], 'spec', pieces[1] .. pieces[2] .. (pieces[3] or '') .. (pieces[4] or ''))
  redis.call('HDEL', KEYS[1], ${PIECE_NAMES})
end
`;

/**
 * Records of runs of one platform. KEYS runs, runs of platform, platforms, dropped platforms, accepting, open runs, then nothing: the names of
 * the others are made of prefixes in the same slot. ARGV platform, `alone` to refuse a run while one of its job is open, prefixes of a
 * record, of run-ids and of runs of a job, then id, spec and job ('' when ad hoc) of each → created | known | dropped | overlap of each
 * The order of runs is that of their acceptance here: servers' clocks differ, and Redis's own may go back.
 */
export const createScript = script(`
${WRITE_SPEC}
local answers, isNew = {}, false
local isDropped = redis.call('SISMEMBER', KEYS[4], ARGV[1]) == 1
${NOW}
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local order = math.max(nowMs, (tonumber(newest) or 0) + 1)
for i = 6, #ARGV, 3 do
  local id, job = ARGV[i], ARGV[i + 2]
  -- The name of the open runs of a job is made of the other's.
  local openOfJob = KEYS[6] .. ':' .. job
  local answer = 'created'
  if redis.call('EXISTS', ARGV[3] .. id) == 1 then answer = 'known'
  elseif isDropped then answer = 'dropped'
  elseif ARGV[2] == 'alone' and redis.call('EXISTS', openOfJob) == 1 then answer = 'overlap'
  else
    writeSpec(ARGV[3] .. id, ARGV[i + 1])
    redis.call('ZADD', ARGV[4] .. string.sub(id, 1, ${RUN_IDS_CHARS}), 0, id)
    redis.call('ZADD', KEYS[1], order, id)
    redis.call('ZADD', KEYS[2], order, id)
    redis.call('ZADD', KEYS[5], nowMs, id)
    redis.call('ZADD', KEYS[6], nowMs, id)
    if job ~= '' then
      redis.call('ZADD', ARGV[5] .. job, order, id)
      redis.call('ZADD', openOfJob, nowMs, id)
    end
    order = order + 1
    isNew = true
  end
  answers[#answers + 1] = answer
end
if isNew then redis.call('SADD', KEYS[3], ARGV[1]) end
return answers
`);

/**
 * KEYS run, lock, open runs, active. ARGV token, attemptsMade, deaths allowed, start of the attempt (JSON), end of a dead attempt (JSON), id,
 * duration of the lock (ms) → {gone} | {unlocked} | {adopt, result} | {cancel, n} | {dead, n, retries} | {run, n, retries, the record's fields}
 * An unfinished attempt found here is of a worker that died: it is closed, and counted; but one of this same claim is this request's own,
 * repeated since its answer was lost. A lock that ran out on the way here is taken again, unless somebody may be at work.
 */
export const claimScript = script(`
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 then return {'gone'} end
local n = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local open = n > 0 and redis.call('HEXISTS', KEYS[1], 'e' .. n) == 0
local mine = open and cjson.decode(redis.call('HGET', KEYS[1], 'a' .. n)).claim == cjson.decode(ARGV[4]).claim
local lock = redis.call('GET', KEYS[2])
if not lock and (mine or not open) and redis.call('LPOS', KEYS[4], ARGV[6]) then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[7])
elseif lock ~= ARGV[1] then
  return {'unlocked'}
end
local result = redis.call('HGET', KEYS[1], 'result')
if result then
  if cjson.decode(result).attemptsMade >= tonumber(ARGV[2]) then return {'adopt', result} end
  ${NOW}
  redis.call('HDEL', KEYS[1], 'result', 'cancel', 'deaths', 'faults', 'retries')
  redis.call('ZADD', KEYS[3], nowMs, ARGV[6])
  local spec = cjson.decode(redis.call('HGET', KEYS[1], 'spec'))
  local job = spec.job or spec[1]
  -- The name of the open runs of a job is made of the other's, in the same slot.
  if type(job) == 'string' and job ~= '' then redis.call('ZADD', KEYS[3] .. ':' .. job, nowMs, ARGV[6]) end
end
local retries = redis.call('HGET', KEYS[1], 'retries') or '0'
if mine then return {'run', n, retries, redis.call('HGETALL', KEYS[1])} end
if n > 0 and redis.call('HSETNX', KEYS[1], 'e' .. n, ARGV[5]) == 1 then redis.call('HINCRBY', KEYS[1], 'deaths', 1) end
if redis.call('HEXISTS', KEYS[1], 'cancel') == 1 then return {'cancel', n} end
if tonumber(redis.call('HGET', KEYS[1], 'deaths') or '0') >= tonumber(ARGV[3]) then return {'dead', n, retries} end
n = n + 1
${JOIN_SPEC}
redis.call('HSET', KEYS[1], 'n', n, 'a' .. n, ARGV[4])
return {'run', n, retries, redis.call('HGETALL', KEYS[1])}
`);

/**
 * The commit: a result counts only from the newest attempt's own claim, while nobody else holds the lock.
 * KEYS run, lock, runs of outcome, cancelling, accepting, open runs, runs, open runs of job. ARGV id, token, attempt, claim ('' for no
 * attempt's), result, end of the attempt ('' for none) → committed | already | superseded | gone (Redis has lost the record)
 */
export const commitScript = script(`
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 then return 'gone' end
local known = redis.call('HGET', KEYS[1], 'result')
-- The same again, since its answer was lost; or another one, which a server may have made of the same attempt.
if known then return known == ARGV[5] and 'committed' or 'already' end
local n = redis.call('HGET', KEYS[1], 'n') or '0'
if n ~= ARGV[3] then return 'superseded' end
if ARGV[4] ~= '' and cjson.decode(redis.call('HGET', KEYS[1], 'a' .. n)).claim ~= ARGV[4] then return 'superseded' end
local lock = redis.call('GET', KEYS[2])
if lock and lock ~= ARGV[2] then return 'superseded' end
${JOIN_SPEC}
redis.call('HSET', KEYS[1], 'result', ARGV[5])
if ARGV[6] ~= '' then redis.call('HSETNX', KEYS[1], 'e' .. n, ARGV[6]) end
redis.call('ZADD', KEYS[3], redis.call('ZSCORE', KEYS[7], ARGV[1]) or 0, ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[8], ARGV[1])
return 'committed'
`);

/**
 * Closes an attempt without a result. KEYS run. ARGV attempt, claim, end, counter to raise ('' for none) → the counter, or -1 when
 * refused. A retry by policy begins with no deaths and no faults.
 */
export const closeAttemptScript = script(`
if redis.call('HGET', KEYS[1], 'n') ~= ARGV[1] then return -1 end
if cjson.decode(redis.call('HGET', KEYS[1], 'a' .. ARGV[1])).claim ~= ARGV[2] then return -1 end
if ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[1], 'result') == 1 then return -1 end
local closed = redis.call('HSETNX', KEYS[1], 'e' .. ARGV[1], ARGV[3])
if ARGV[4] == '' then return 0 end
-- A dead worker's attempt is closed before a retry of it is counted.
if ARGV[4] == 'retries' then closed = redis.call('HSETNX', KEYS[1], 'r' .. ARGV[1], 1) end
if closed == 0 then return tonumber(redis.call('HGET', KEYS[1], ARGV[4]) or '0') end
if ARGV[4] == 'retries' then redis.call('HDEL', KEYS[1], 'deaths', 'faults') end
return redis.call('HINCRBY', KEYS[1], ARGV[4], 1)
`);

/**
 * Takes an expired lock again, also of a run that a server has queued anew and nobody has taken. KEYS run, lock, active, wait. ARGV id, token,
 * attempt, claim, duration (ms) → 1 held | 0 refused | -1 Redis has lost the record
 */
export const retakeScript = script(`
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 then return -1 end
if redis.call('HEXISTS', KEYS[1], 'result') == 1 then return 0 end
local lock = redis.call('GET', KEYS[2])
if lock and lock ~= ARGV[2] then return 0 end
if redis.call('HGET', KEYS[1], 'n') ~= ARGV[3] then return 0 end
if cjson.decode(redis.call('HGET', KEYS[1], 'a' .. ARGV[3])).claim ~= ARGV[4] then return 0 end
if not redis.call('LPOS', KEYS[3], ARGV[1]) then
  if redis.call('LREM', KEYS[4], 1, ARGV[1]) == 0 then return 0 end
  redis.call('LPUSH', KEYS[3], ARGV[1])
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[5])
return 1
`);

/**
 * Gives the lock on a job to the attempt that is open on its run. KEYS run, lock. ARGV token that has the lock, token of the attempt, attempt,
 * claim, duration (ms) → 1 given | 0 refused
 */
export const handOverScript = script(`
if redis.call('HEXISTS', KEYS[1], 'result') == 1 or redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'n') ~= ARGV[3] or redis.call('HEXISTS', KEYS[1], 'e' .. ARGV[3]) == 1 then return 0 end
if cjson.decode(redis.call('HGET', KEYS[1], 'a' .. ARGV[3])).claim ~= ARGV[4] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[5])
return 1
`);

/** Takes an expired lock again to give a run back, while nobody else has it. KEYS lock, active. ARGV id, token, duration (ms) */
export const holdScript = script(`
if redis.call('LPOS', KEYS[2], ARGV[1]) then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3], 'NX') end
`);

/**
 * Writes again what a Redis that came back empty has lost of a run that is being executed: its record, and BullMQ's job as an active
 * one, so that whatever follows finds all as it was.
 * KEYS run, run-ids, runs, runs of platform, platforms, runs of job, lock, active, BullMQ's job, open
 * runs, open runs of job. ARGV id, spec, created (ms), platform,
 * job, token, lock duration (ms), newest attempt, then name, data and opts of BullMQ's job, its priority, then field and value of each
 * attempt's start and end → restored | known
 */
export const restoreScript = script(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 'known' end
redis.call('HSET', KEYS[1], 'spec', ARGV[2], 'n', ARGV[8], unpack(ARGV, 13))
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[1])
redis.call('SADD', KEYS[5], ARGV[4])
${NOW}
redis.call('ZADD', KEYS[10], nowMs, ARGV[1])
if ARGV[5] ~= '' then redis.call('ZADD', KEYS[6], ARGV[3], ARGV[1]) end
if ARGV[5] ~= '' then redis.call('ZADD', KEYS[11], nowMs, ARGV[1]) end
if redis.call('EXISTS', KEYS[9]) == 1 then return 'restored' end
redis.call('SET', KEYS[7], ARGV[6], 'PX', ARGV[7])
redis.call('LPUSH', KEYS[8], ARGV[1])
redis.call('HSET', KEYS[9], 'name', ARGV[9], 'data', ARGV[10], 'opts', ARGV[11], 'timestamp', ARGV[3], 'delay', 0, 'priority', ARGV[12], 'ats', 1)
return 'restored'
`);

/** KEYS run, cancelling, lock where a run whose attempt is open and held is left alone. ARGV id, request → gone | finished | begun | requested */
export const requestCancelScript = script(`
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 then return 'gone' end
if redis.call('HEXISTS', KEYS[1], 'result') == 1 then return 'finished' end
if KEYS[3] then
  local n = redis.call('HGET', KEYS[1], 'n')
  if n and redis.call('HEXISTS', KEYS[1], 'e' .. n) == 0 and redis.call('EXISTS', KEYS[3]) == 1 then return 'begun' end
end
${NOW}
redis.call('HSETNX', KEYS[1], 'cancel', ARGV[2])
redis.call('ZADD', KEYS[2], nowMs, ARGV[1])
return 'requested'
`);

/** A deliberate retry. KEYS run, runs of outcome, accepting, open runs, open runs of job. ARGV id, job ('' when ad hoc) → gone | open | reopened */
export const reopenScript = script(`
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 then return 'gone' end
if redis.call('HEXISTS', KEYS[1], 'result') == 0 then return 'open' end
${NOW}
redis.call('HDEL', KEYS[1], 'result', 'cancel', 'deaths', 'faults', 'retries')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], nowMs, ARGV[1])
redis.call('ZADD', KEYS[4], nowMs, ARGV[1])
if ARGV[2] ~= '' then redis.call('ZADD', KEYS[5], nowMs, ARGV[1]) end
return 'reopened'
`);

/**
 * Open runs that BullMQ will hand to nobody: it has no job of theirs, or one that has ended. KEYS open runs, then nothing: the names of
 * BullMQ's jobs are made of a prefix in the same slot. ARGV prefix, age (ms), first, how many → {how many were looked at, id…}
 */
export const strandedScript = script(`
${NOW}
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', nowMs - tonumber(ARGV[2]), 'LIMIT', ARGV[3], ARGV[4])
local found = {#ids}
for _, id in ipairs(ids) do
  local job = ARGV[1] .. id
  if redis.call('EXISTS', job) == 0 or redis.call('HEXISTS', job, 'finishedOn') == 1 then table.insert(found, id) end
end
return found
`);
