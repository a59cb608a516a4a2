/** Looking for runs whose worker died: BullMQ's stalled check of every platform, behind a guard of builder's own. */
import { moveStalledJobsToWait } from 'bullmq/dist/esm/scripts/moveStalledJobsToWait-9.js';
import { limits } from '../job/limits.ts';
import { redisNowMs } from '../redis/clock.ts';
import { BULL_PREFIX, keys, runQueue, TICK_QUEUE } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { oneLine } from '../service/errors.ts';
import { type Queues, queueNamed } from './queues.ts';
import { NOW } from './record-scripts.ts';

/** In the order in which BullMQ's script has them. */
const BULL_KEYS = ['stalled', 'wait', 'active', 'stalled-check', 'meta', 'paused', 'marker', 'events', 'repeat'];

/**
 * A Redis that nobody could ask for a while (suspended, cut off, read-only, full, restarted, its clock moved) let locks run out that living
 * workers could not renew: for one lock duration after it no run is abandoned. Guard and check are one step, since a check that was under
 * way when Redis stopped would be the first thing that it does when it goes on.
 * KEYS those of BullMQ, awake. ARGV those of BullMQ (4), silence that is none (ms), patience after one (ms) → ids of runs that wait again
 */
const abandonedScript = script(`
${guard({ awake: 'KEYS[10]', silentMs: 'ARGV[5]' })}
if nowMs - sinceMs < tonumber(ARGV[6]) then return {} end
${moveStalledJobsToWait.content}
`);

/**
 * Which queues have jobs at work, or had when somebody last looked. KEYS awake, platforms, then nothing: the names of BullMQ's keys are made
 * of a prefix in the same slot. ARGV silence that is none (ms), prefix, queue of ticks, prefix of the queue of a platform → names of queues
 */
const busyScript = script(`
${guard({ awake: 'KEYS[1]', silentMs: 'ARGV[1]' })}
local busy = {}
local function look(queue)
  local name = ARGV[2] .. ':' .. queue
  if redis.call('EXISTS', name .. ':active', name .. ':stalled') > 0 then table.insert(busy, queue) end
end
look(ARGV[3])
for _, platform in ipairs(redis.call('SMEMBERS', KEYS[2])) do look(ARGV[4] .. platform) end
return busy
`);

/** Queues again the runs, and the ticks, that workers and servers left without a lock. Any number of servers may do so at once. */
export async function requeueAbandoned(queues: Queues): Promise<void> {
  const args = [limits.redisSilentMs, BULL_PREFIX, TICK_QUEUE, runQueue('')];
  const busy = (await runScript(queues.redis, busyScript, [keys.awake, keys.platforms], args)) as string[];
  for (const name of busy) {
    await requeueOf(queues, name).catch((cause: unknown) => queues.logger.debug({ queue: name, error: oneLine(cause) }, 'abandoned runs'));
  }
}

/** Whether Redis could not be asked within the last lock duration, as far as servers know: then a missing lock tells nothing of a worker. */
export async function wasSilent(queues: Queues): Promise<boolean> {
  return (await servedMs(queues)) < limits.lockDurationMs;
}

/** For how long servers have asked Redis without a longer pause, by its clock; 0 when they have just come back, or nothing is known. */
export async function servedMs({ redis }: Queues): Promise<number> {
  const [[at, since], nowMs] = await Promise.all([redis.hmget(keys.awake, 'at', 'since'), redisNowMs(redis)]);
  const silentMs = nowMs - Number(at ?? 0);
  return silentMs > limits.redisSilentMs || silentMs < 0 ? 0 : nowMs - Number(since);
}

async function requeueOf(queues: Queues, name: string): Promise<void> {
  const queue = queueNamed(queues, name);
  // The bound on worker deaths is builder's own, checked at the claim; BullMQ's never decides.
  const ofBull = [Number.MAX_SAFE_INTEGER, queue.toKey(''), Date.now(), limits.stalledIntervalMs];
  const ofGuard = [limits.redisSilentMs, limits.lockDurationMs];
  const names = [...BULL_KEYS.map((key) => queue.toKey(key)), keys.awake];
  const ids = (await runScript(queues.redis, abandonedScript, names, [...ofBull, ...ofGuard])) as string[];
  const isTick = name === TICK_QUEUE;
  for (const id of ids) {
    if (isTick) queues.logger.info({ tick: id }, 'its server is silent; the tick is taken again');
    else queues.logger.warn({ run: id, queue: name }, 'its worker is silent; the run is queued again');
  }
}

/** Lua that notes when Redis could be asked: `nowMs`, and since when without a longer pause, `sinceMs`. */
function guard({ awake, silentMs }: { awake: string; silentMs: string }): string {
  return `
${NOW}
local known = redis.call('HMGET', ${awake}, 'at', 'since')
local silentMs = nowMs - tonumber(known[1] or '0')
local sinceMs = tonumber(known[2] or '0')
if silentMs > tonumber(${silentMs}) or silentMs < 0 then sinceMs = nowMs end
redis.call('HSET', ${awake}, 'at', nowMs, 'since', sinceMs)
`;
}
