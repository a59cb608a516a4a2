/** Aging: what has waited long moves up one class of priority, so that a stream of urgent runs starves nobody. */
import { limits } from '../job/limits.ts';
import { redisNowMs } from '../redis/clock.ts';
import { keys } from '../redis/keys.ts';
import { PRIORITY_NUMBERS } from './bull-jobs.ts';
import { knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';

const PAGE = 500;

/** Looks at the last of the waiting of each platform, where those that starve are. */
export async function ageWaiting(queues: Queues): Promise<void> {
  for (const platform of await knownPlatforms(queues)) {
    const queue = platformQueue(queues, platform);
    const jobs = await queue.getJobs(['prioritized'], 0, PAGE - 1, false);
    if (jobs.length === 0) continue;
    const { nowMs, acceptedMs } = await acceptedOf(
      queues,
      platform,
      jobs.map((job) => job.id ?? ''),
    );
    for (const job of jobs) {
      const raised = raisedPriority(job.priority, nowMs - (acceptedMs.get(job.id ?? '') ?? nowMs));
      if (raised < job.priority) await job.changePriority({ priority: raised }).catch(() => undefined);
    }
  }
}

/** By Redis's clock alone: that of the server which made a job (its `timestamp`) may be far from this one's. */
async function acceptedOf(queues: Queues, platform: string, ids: string[]): Promise<{ nowMs: number; acceptedMs: Map<string, number> }> {
  const [scores, nowMs] = await Promise.all([queues.redis.zmscore(keys.openRuns(platform), ...ids), redisNowMs(queues.redis)]);
  const acceptedMs = ids.flatMap((id, index): [string, number][] => (scores[index] == null ? [] : [[id, Number(scores[index])]]));
  return { nowMs, acceptedMs: new Map(acceptedMs) };
}

/** low becomes normal after limits.agingMs, anything becomes high after twice that. */
export function raisedPriority(priority: number, waitedMs: number): number {
  if (waitedMs >= 2 * limits.agingMs) return Math.min(priority, PRIORITY_NUMBERS.high);
  return waitedMs >= limits.agingMs ? Math.min(priority, PRIORITY_NUMBERS.normal) : priority;
}
