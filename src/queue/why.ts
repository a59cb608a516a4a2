/** Gathers why a run waits, or a job does not run. */
import type { JobDefinition } from '../job/definition.ts';
import { type JobWhy, whyOfJob } from '../job/job-why.ts';
import { limits } from '../job/limits.ts';
import type { RunRecord } from '../job/run.ts';
import { nearestPlatforms, type Place, type PlatformFacts, type RunWhy, whyOfRun } from '../job/run-why.ts';
import { redisNowMs } from '../redis/clock.ts';
import { bullLockKey, bullPrioritizedKey, bullWaitKey, keys, runQueue } from '../redis/keys.ts';
import { BuilderError } from '../service/errors.ts';
import { nextTickOf } from './definitions.ts';
import { platformsLeft } from './execute.ts';
import { droppedPlatforms, knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';
import { readRecord, readRecords } from './records.ts';
import { ticksOfJob } from './tick-counts.ts';
import { countRuns } from './view.ts';
import { listWorkers } from './workers.ts';

/** Of what is before a run in its queue so many are named. */
const AHEAD_NAMED = 3;

/** Throws `not-found`. */
export async function getRunWhy(queues: Queues, id: string): Promise<RunWhy> {
  const record = await readRecord(queues.redis, id);
  if (record === null) throw new BuilderError('not-found', `no such run: ${id}`);
  return runWhy(queues, record, await platformFacts(queues, record.spec.platform, await poolFacts(queues)));
}

export async function getJobWhy(queues: Queues, definition: JobDefinition): Promise<JobWhy> {
  const { name, paused, schedule } = definition;
  const platforms = await platformsLeft(queues, definition);
  const [pool, ticks] = await Promise.all([poolFacts(queues), ticksOfJob(queues.redis, name)]);
  const { known, dropped, workers } = pool;
  const served = new Set(workers.flatMap((worker) => worker.platforms));
  const nextMs = nextTickOf(definition, Date.now());
  return whyOfJob({
    job: name,
    ...{ paused, platforms, next: nextMs === null ? null : new Date(nextMs).toISOString() },
    isEverDue: schedule.kind !== 'never',
    unserved: platforms
      .filter((platform) => !served.has(platform))
      .map((platform) => ({ platform, ...nearestPlatforms({ name: platform, workers, known }) })),
    dropped: platforms.filter((platform) => dropped.includes(platform)),
    // A run may be open on a platform that the job had before.
    ...(await openRunsOf(queues, name, pool)),
    ...{ lastTick: ticks.last, ticks: ticks.counts },
  });
}

async function openRunsOf(queues: Queues, job: string, pool: PoolFacts): Promise<Pick<JobWhy, 'openRuns' | 'openRun'>> {
  const { redis } = queues;
  const platforms = pool.known;
  const counts = await Promise.all(platforms.map((platform) => redis.zcard(keys.openRunsOfJob(platform, job))));
  const oldest = platforms.map((platform) => redis.zrange(keys.openRunsOfJob(platform, job), '0', String(limits.infoNextMax - 1)));
  const records = await readRecords(redis, (await Promise.all(oldest)).flat());
  const open = records.filter((record): record is RunRecord => record !== null && record.result === null);
  const whys = await Promise.all(
    platforms.map(async (platform) => {
      const ofPlatform = open.filter(({ spec }) => spec.platform === platform);
      if (ofPlatform.length === 0) return [];
      const facts = await platformFacts(queues, platform, pool);
      return Promise.all(ofPlatform.map((record) => runWhy(queues, record, facts)));
    }),
  );
  const openRun = whys.flat().find(({ code }) => code !== 'running') ?? whys.flat()[0] ?? null;
  return { openRuns: counts.reduce((sum, count) => sum + count, 0), openRun };
}

async function runWhy(queues: Queues, record: RunRecord, facts: PlatformFacts): Promise<RunWhy> {
  return whyOfRun(record, record.result === null ? await placeOf(queues, record) : NOWHERE, facts);
}

const NOWHERE: Place = { kind: 'nowhere' };

async function placeOf(queues: Queues, { spec }: RunRecord): Promise<Place> {
  const queue = runQueue(spec.platform);
  switch (await platformQueue(queues, spec.platform).getJobState(spec.id)) {
    case 'active':
      return { kind: 'active', isHeld: (await queues.redis.exists(bullLockKey(queue, spec.id))) === 1 };
    case 'delayed':
      return delayedPlace(queues, spec.id);
    case 'waiting':
    case 'prioritized':
      return waitingPlace(queues, queue, spec.id);
    default:
      return NOWHERE;
  }
}

/** Reckoned from what is left by Redis's clock, by which a server starts it. */
async function delayedPlace({ redis }: Queues, id: string): Promise<Place> {
  const [due, nowMs] = await Promise.all([redis.zscore(keys.retries, id), redisNowMs(redis)]);
  const leftMs = Number(due) - nowMs;
  return due === null ? NOWHERE : { kind: 'delayed', untilMs: Date.now() + Math.max(0, Math.round(leftMs)) };
}

/** BullMQ takes what is in its list first, from the end, then by priority. */
async function waitingPlace({ redis }: Queues, queue: string, id: string): Promise<Place> {
  const [inList, listed, rank] = await Promise.all([
    redis.lpos(bullWaitKey(queue), id),
    redis.llen(bullWaitKey(queue)),
    redis.zrank(bullPrioritizedKey(queue), id),
  ]);
  const before = inList !== null ? listed - 1 - inList : rank !== null ? listed + rank : null;
  if (before === null) return NOWHERE;
  const named = Math.min(before, AHEAD_NAMED);
  const first = named === 0 ? [] : (await redis.lrange(bullWaitKey(queue), -named, -1)).reverse();
  const next = named === first.length ? [] : await redis.zrange(bullPrioritizedKey(queue), '0', String(named - first.length - 1));
  const records = await readRecords(redis, [...first, ...next]);
  const ahead = records.filter((record): record is RunRecord => record !== null).map(({ spec }) => ({ run: spec.id, job: spec.job }));
  return { kind: 'waiting', position: before + 1, ahead };
}

type PoolFacts = Pick<PlatformFacts, 'known' | 'workers'> & { dropped: string[] };

async function poolFacts(queues: Queues): Promise<PoolFacts> {
  const [known, dropped, workers] = await Promise.all([knownPlatforms(queues), droppedPlatforms(queues), listWorkers(queues)]);
  return { known, dropped, workers };
}

async function platformFacts(queues: Queues, name: string, { known, dropped, workers }: PoolFacts): Promise<PlatformFacts> {
  const [isPaused, { running }] = await Promise.all([platformQueue(queues, name).isPaused(), countRuns(queues, name)]);
  return { name, isDropped: dropped.includes(name), isPaused, active: running, workers, known };
}
