/** Accepting a run: its record first, then its BullMQ job; the caller hears «accepted» after both. */
import type { RunSpec } from '../job/run.ts';
import { keys } from '../redis/keys.ts';
import { addJobs } from './bull-jobs.ts';
import type { Queues } from './queues.ts';
import { createRecord, createRecords } from './records.ts';

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

/** Many runs at once; each is accepted by itself, and the call resolves when all are. The ids of those that were not known before. */
export async function submitRuns(queues: Queues, specs: RunSpec[]): Promise<Set<string>> {
  const accepted = new Set<string>();
  for (const [platform, ofPlatform] of byPlatform(specs)) {
    const answers = await createRecords(queues.redis, platform, ofPlatform);
    ofPlatform.forEach(({ id }, index) => {
      if (answers[index] === 'created') accepted.add(id);
    });
    const known = ofPlatform.filter(({ id }) => !accepted.has(id)).map(({ id }) => id);
    const halfway = known.length === 0 ? [] : await queues.redis.zmscore(keys.accepting, ...known);
    const accepting = new Set(known.filter((_, index) => halfway[index] != null));
    await addJobs(
      queues,
      platform,
      ofPlatform.filter(({ id }) => accepted.has(id) || accepting.has(id)),
    );
  }
  return accepted;
}

/** Adds the BullMQ jobs of recorded runs; adding one again changes nothing. */
export async function enqueue(queues: Queues, specs: RunSpec[]): Promise<void> {
  for (const [platform, ofPlatform] of byPlatform(specs)) await addJobs(queues, platform, ofPlatform);
}

function byPlatform(specs: RunSpec[]): Map<string, RunSpec[]> {
  const found = new Map<string, RunSpec[]>();
  for (const spec of specs) {
    const ofPlatform = found.get(spec.platform);
    if (ofPlatform === undefined) found.set(spec.platform, [spec]);
    else ofPlatform.push(spec);
  }
  return found;
}
