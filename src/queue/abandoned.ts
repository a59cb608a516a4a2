/** Looking for runs whose worker died: BullMQ's stalled check of every platform, behind a guard of builder's own. */
import { moveStalledJobsToWait } from 'bullmq/dist/esm/scripts/moveStalledJobsToWait-9.js';
import { limits } from '../job/limits.ts';
import { redisNowMs } from '../redis/clock.ts';
import { keys } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { oneLine } from '../service/errors.ts';
import { knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';
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
${NOW}
local known = redis.call('HMGET', KEYS[10], 'at', 'since')
local silentMs = nowMs - tonumber(known[1] or '0')
local sinceMs = tonumber(known[2] or '0')
if silentMs > tonumber(ARGV[5]) or silentMs < 0 then sinceMs = nowMs end
redis.call('HSET', KEYS[10], 'at', nowMs, 'since', sinceMs)
if nowMs - sinceMs < tonumber(ARGV[6]) then return {} end
${moveStalledJobsToWait.content}
`);

/** Queues again the runs that workers left without a lock. Any number of servers may do so at once. */
export async function requeueAbandoned(queues: Queues): Promise<void> {
  for (const platform of await knownPlatforms(queues)) {
    await requeueOf(queues, platform).catch((cause: unknown) => queues.logger.debug({ platform, error: oneLine(cause) }, 'abandoned runs'));
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

async function requeueOf(queues: Queues, platform: string): Promise<void> {
  const queue = platformQueue(queues, platform);
  // The bound on worker deaths is builder's own, checked at the claim; BullMQ's never decides.
  const ofBull = [Number.MAX_SAFE_INTEGER, queue.toKey(''), Date.now(), limits.stalledIntervalMs];
  const ofGuard = [limits.redisSilentMs, limits.lockDurationMs];
  const names = [...BULL_KEYS.map((name) => queue.toKey(name)), keys.awake];
  const ids = (await runScript(queues.redis, abandonedScript, names, [...ofBull, ...ofGuard])) as string[];
  for (const run of ids) queues.logger.warn({ run, platform }, 'its worker is silent; the run is queued again');
}
