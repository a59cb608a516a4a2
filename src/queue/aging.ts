/** Aging: what has waited long moves up one class of priority, so that a stream of urgent runs starves nobody. */
import { limits } from '../job/limits.ts';
import { knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';
import { PRIORITY_NUMBERS } from './submit.ts';

const PAGE = 500;

/** Looks at the last of the waiting of each platform, where those that starve are. */
export async function ageWaiting(queues: Queues): Promise<void> {
  for (const platform of await knownPlatforms(queues)) {
    const queue = platformQueue(queues, platform);
    for (const job of await queue.getJobs(['prioritized'], 0, PAGE - 1, false)) {
      const raised = raisedPriority(job.priority, Date.now() - job.timestamp);
      if (raised < job.priority) await job.changePriority({ priority: raised }).catch(() => undefined);
    }
  }
}

/** low becomes normal after limits.agingMs, anything becomes high after twice that. */
export function raisedPriority(priority: number, waitedMs: number): number {
  if (waitedMs >= 2 * limits.agingMs) return Math.min(priority, PRIORITY_NUMBERS.high);
  return waitedMs >= limits.agingMs ? Math.min(priority, PRIORITY_NUMBERS.normal) : priority;
}
