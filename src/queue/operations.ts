/** What an operator may do to the queues from the board, each through builder's own functions so that records and jobs agree. */
import type { RunRecord } from '../job/run.ts';
import { keys } from '../redis/keys.ts';
import { BuilderError } from '../service/errors.ts';
import { cancelIfWaiting, requestCancel, retryRun } from './cancel.ts';
import { knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';
import { readRecord } from './records.ts';

const PAGE = 200;
const REASON = 'removed on the board';
type OpenState = 'wait' | 'prioritized' | 'delayed';
type EndedState = 'completed' | 'failed';

/** Workers take no more runs of the platform until it is resumed; what runs goes on. */
export async function pausePlatform(queues: Queues, platform: string): Promise<void> {
  await platformQueue(queues, platform).pause();
}

export async function resumePlatform(queues: Queues, platform: string): Promise<void> {
  await platformQueue(queues, platform).resume();
}

export async function pauseAll(queues: Queues): Promise<void> {
  for (const platform of await knownPlatforms(queues)) await pausePlatform(queues, platform);
}

export async function resumeAll(queues: Queues): Promise<void> {
  for (const platform of await knownPlatforms(queues)) await resumePlatform(queues, platform);
}

/** Cancels a run that has not ended; of one that has, takes the job from the board and leaves the record. */
export async function removeJobOfRun(queues: Queues, platform: string, id: string): Promise<void> {
  const record = await readRecord(queues.redis, id);
  if (isOpen(record)) await requestCancel(queues, id, REASON);
  else await platformQueue(queues, platform).remove(id);
}

/** The same for every job in a state; running ones are left alone. Returns how many. */
export async function cleanState(queues: Queues, platform: string, state: OpenState | EndedState): Promise<number> {
  const ids = await idsIn(queues, platform, state);
  for (const id of ids) {
    // Of those that waited when they were listed a worker may have taken some since.
    if (isOpen(await readRecord(queues.redis, id))) await cancelIfWaiting(queues, platform, id, REASON);
    else await platformQueue(queues, platform).remove(id);
  }
  return ids.length;
}

/** Retries every ended run in a state; returns how many, and how many could not be. */
export async function retryState(queues: Queues, platform: string, state: EndedState): Promise<{ retried: number; skipped: number }> {
  const count = { retried: 0, skipped: 0 };
  for (const id of await idsIn(queues, platform, state)) {
    await retryRun(queues, id).then(
      () => {
        count.retried += 1;
      },
      (cause: unknown) => {
        if (!(cause instanceof BuilderError)) throw cause;
        count.skipped += 1;
      },
    );
  }
  return count;
}

/** Starts the delay's end now; throws `conflict` for a job that is not delayed. */
export async function promoteJob(queues: Queues, platform: string, id: string): Promise<void> {
  const job = await platformQueue(queues, platform).getJob(id);
  if (job === undefined) throw new BuilderError('not-found', `no such job: ${id}`);
  if (!(await job.isDelayed())) throw new BuilderError('conflict', `expected a delayed run, got ${id}, which is not`);
  await job.promote();
  await queues.redis.zrem(keys.retries, id);
}

export async function promoteAll(queues: Queues, platform: string): Promise<void> {
  for (const id of await idsIn(queues, platform, 'delayed')) {
    await promoteJob(queues, platform, id).catch(async (cause: unknown) => {
      // It may have begun, or ended, since it was listed.
      if ((await (await platformQueue(queues, platform).getJob(id))?.isDelayed()) === true) throw cause;
    });
  }
}

/** All ids first: what is done to a job moves those behind it. */
async function idsIn(queues: Queues, platform: string, state: OpenState | EndedState): Promise<string[]> {
  const found = new Set<string>();
  for (let start = 0; ; start += PAGE) {
    const ids = await platformQueue(queues, platform).getRanges([state], start, start + PAGE - 1, true);
    for (const id of ids) found.add(id);
    if (ids.length < PAGE) return [...found];
  }
}

function isOpen(record: RunRecord | null): boolean {
  return record !== null && record.result === null;
}
