/** Looking for runs whose worker died: BullMQ's stalled check of every platform, behind a guard of builder's own. */
import { moveStalledJobsToWait } from 'bullmq/dist/esm/scripts/moveStalledJobsToWait-9.js';
import { limits } from '../job/limits.ts';
import { BULL_PREFIX, keys, runQueue, TICK_QUEUE } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { oneLine } from '../service/errors.ts';
import { type Queues, queueNamed } from './queues.ts';
import { NOW } from './record-scripts.ts';
import { SERVED_SINCE } from './served.ts';

/** In the order in which BullMQ's script has them. */
const BULL_KEYS = ['stalled', 'wait', 'active', 'stalled-check', 'meta', 'paused', 'marker', 'events', 'repeat'];

/**
 * A Redis that nobody could ask for a while (suspended, cut off, read-only, full, restarted, its clock moved) let locks run out that living
 * workers could not renew: for one lock duration after it no run is abandoned. Guard and check are one step, since a check that was under
 * way when Redis stopped would be the first thing that it does when it goes on.
 * KEYS those of BullMQ, watch. ARGV those of BullMQ (4), silence that is none (ms), patience after one (ms) → ids of runs that wait again
 */
const abandonedScript = script(`
${NOW}${SERVED_SINCE}
local known = redis.call('HMGET', KEYS[10], 'at', 'since')
local since = servedSince(known[1], known[2], ARGV[5])
redis.call('HSET', KEYS[10], 'at', nowMs, 'since', since)
if nowMs - since < tonumber(ARGV[6]) then return {} end
${moveStalledJobsToWait.content}
`);

/**
 * Which queues have jobs at work, or had when somebody last looked. KEYS platforms, then nothing: the names of BullMQ's keys are made
 * of a prefix in the same slot. ARGV prefix, queue of ticks, prefix of the queue of a platform, names at once → names of queues
 */
const busyScript = script(`
local queues, names = {ARGV[2]}, {}
for _, platform in ipairs(redis.call('SMEMBERS', KEYS[1])) do table.insert(queues, ARGV[3] .. platform) end
for _, queue in ipairs(queues) do
  local name = ARGV[1] .. ':' .. queue
  table.insert(names, name .. ':active')
  table.insert(names, name .. ':stalled')
end
local busy = {}
-- Most are not at work: one question for all, though Lua unpacks no more than some thousands at a time.
local atOnce = tonumber(ARGV[4])
for first = 1, #names, atOnce do
  local last = math.min(first + atOnce - 1, #names)
  if redis.call('EXISTS', unpack(names, first, last)) > 0 then
    for i = first, last, 2 do
      if redis.call('EXISTS', names[i], names[i + 1]) > 0 then table.insert(busy, queues[(i + 1) / 2]) end
    end
  end
end
return busy
`);

/** An even number, far below what Lua unpacks. */
const NAMES_AT_ONCE = 1_000;

/** Queues again the runs, and the ticks, that workers and servers left without a lock. Any number of servers may do so at once. */
export async function requeueAbandoned(queues: Queues): Promise<void> {
  const busy = (await runScript(
    queues.redis,
    busyScript,
    [keys.platforms],
    [BULL_PREFIX, TICK_QUEUE, runQueue(''), NAMES_AT_ONCE],
  )) as string[];
  for (const name of busy) {
    await requeueOf(queues, name).catch((cause: unknown) => queues.logger.debug({ queue: name, error: oneLine(cause) }, 'abandoned runs'));
  }
}

async function requeueOf(queues: Queues, name: string): Promise<void> {
  const queue = queueNamed(queues, name);
  // The bound on worker deaths is builder's own, checked at the claim; BullMQ's never decides.
  const ofBull = [Number.MAX_SAFE_INTEGER, queue.toKey(''), Date.now(), limits.stalledIntervalMs];
  const ofGuard = [limits.redisSilentMs, limits.lockDurationMs];
  const names = [...BULL_KEYS.map((key) => queue.toKey(key)), keys.watch];
  const ids = (await runScript(queues.redis, abandonedScript, names, [...ofBull, ...ofGuard])) as string[];
  const isTick = name === TICK_QUEUE;
  for (const id of ids) {
    if (isTick) queues.logger.info({ tick: id }, 'its server is silent; the tick is taken again');
    else queues.logger.warn({ run: id, queue: name }, 'its worker is silent; the run is queued again');
  }
}
