/** Accepting a run: its record first, then its BullMQ job; the caller hears «accepted» after both. */
import type { Priority, RunSpec, Trigger } from '../job/run.ts';
import { keys } from '../redis/keys.ts';
import { platformQueue, type Queues } from './queues.ts';
import { createRecord } from './records.ts';

/** BullMQ priorities, the lowest number first; never 0, which BullMQ takes before all others. */
const EXECUTE_PRIORITY = 1;
export const PRIORITY_NUMBERS: Record<Priority, number> = { high: 2, normal: 10, low: 20 };

/**
 * Submits a run once, however often it is called with the same id. Resolves when Redis has both the record and the job.
 * `alone` refuses it, as `overlap`, while another run of its job is open on its platform.
 * Throws BuilderError `platform-dropped`; any Redis error passes through, and what it left half done a server completes.
 */
export async function submitRun(queues: Queues, spec: RunSpec, o: { alone?: boolean } = {}): Promise<'accepted' | 'known' | 'overlap'> {
  const created = await createRecord(queues.redis, spec, o);
  if (created === 'overlap') return 'overlap';
  if (created === 'known' && (await queues.redis.zscore(keys.accepting, spec.id)) === null) return 'known';
  await enqueue(queues, [spec]);
  return created === 'created' ? 'accepted' : 'known';
}

/** Many runs at once; each is accepted by itself, and the call resolves when all are. */
export async function submitRuns(queues: Queues, specs: RunSpec[]): Promise<void> {
  for (const spec of specs) await createRecord(queues.redis, spec);
  await enqueue(queues, specs);
}

/** Adds the BullMQ jobs of recorded runs; adding one again changes nothing. */
export async function enqueue(queues: Queues, specs: RunSpec[]): Promise<void> {
  for (const platform of new Set(specs.map((spec) => spec.platform))) {
    const ofPlatform = specs.filter((spec) => spec.platform === platform);
    await platformQueue(queues, platform).addBulk(ofPlatform.map(bullJob));
  }
  if (specs.length > 0) await queues.redis.zrem(keys.accepting, ...specs.map((spec) => spec.id));
}

function bullJob(spec: RunSpec): { name: string; data: object; opts: { jobId: string; priority: number } } {
  return {
    name: spec.job ?? 'ad-hoc',
    data: { run: spec.id, trigger: spec.trigger },
    opts: { jobId: spec.id, priority: priorityOf(spec.trigger, spec.priority) },
  };
}

function priorityOf(trigger: Trigger, priority: Priority): number {
  return trigger === 'execute' ? EXECUTE_PRIORITY : PRIORITY_NUMBERS[priority];
}
