/** Runs that wait for their next attempt: due by Redis's clock, started by the servers, since the clocks of two workers differ. */
import { limits } from '../job/limits.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { eachRun } from './each-run.ts';
import { platformQueue, type Queues } from './queues.ts';
import { NOW } from './record-scripts.ts';
import { readRecord } from './records.ts';

/**
 * Lua: what waits keeps its time where Redis's clock has jumped since somebody looked at it; where nobody did for long there was no server
 * to start anything, so a retry may as well wait on. To be done every few seconds, so that a jump is told from the time that passes. ARGV how far
 * the clock may go back, and on (ms)
 */
export const KEEP_TIMES = `
local function keepTimes(retries, clock)
  local passedMs = nowMs - tonumber(clock or nowMs)
  if passedMs >= -tonumber(ARGV[1]) and passedMs <= tonumber(ARGV[2]) then return end
  for _, id in ipairs(redis.call('ZRANGE', retries, 0, -1)) do redis.call('ZINCRBY', retries, passedMs, id) end
end
`;
export const KEEPING = [limits.clockJumpMsMin, limits.clockUnwatchedMs];

/** KEYS retries, watch. ARGV those of KEEP_TIMES (2), id, delay (ms) */
const delayScript = script(`
${NOW}${KEEP_TIMES}
keepTimes(KEYS[1], redis.call('HGET', KEYS[2], 'clock'))
redis.call('HSET', KEYS[2], 'clock', nowMs)
redis.call('ZADD', KEYS[1], nowMs + tonumber(ARGV[4]), ARGV[3])
`);

/** Removes a run whose time has come; one that was given another meanwhile stays. KEYS retries. ARGV id */
const forgetDueScript = script(`
${NOW}
local dueMs = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 'inf')
if dueMs <= nowMs then redis.call('ZREM', KEYS[1], ARGV[1]) end
`);

/** Says when a run is due; to be called before its job is delayed, which nobody else would start in time. */
export async function delayRun(redis: Redis, id: string, delayMs: number): Promise<void> {
  await runScript(redis, delayScript, [keys.retries, keys.watch], [...KEEPING, id, delayMs]);
}

/** Starts what is due. Any number of servers may do so at once. */
export async function startRetries(queues: Queues, due: string[]): Promise<void> {
  await eachRun(queues, due, async (id) => {
    const record = await readRecord(queues.redis, id);
    const job = record === null || record.result !== null ? undefined : await platformQueue(queues, record.spec.platform).getJob(id);
    const state = await job?.getState();
    // Its worker is about to delay it; or it runs already, which is forgotten when it has ended.
    if (state === 'active') return;
    if (state === 'delayed') {
      await job?.promote().catch(async (cause: unknown) => {
        // Another server may have started it in this very moment; else it is started at the next look, and must not be forgotten.
        if ((await job.getState()) === 'delayed') throw cause;
      });
    }
    await runScript(queues.redis, forgetDueScript, [keys.retries], [id]);
  });
}
