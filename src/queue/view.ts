/** What people see of runs: records, and for unfinished ones the state of their BullMQ job. */
import type { JobState } from 'bullmq';
import type { Info, RunPage, ScheduleEntry } from '../job/api.ts';
import type { JobDefinition } from '../job/definition.ts';
import { limits } from '../job/limits.ts';
import type { Outcome } from '../job/outcome.ts';
import { type Run, type RunRecord, type RunState, runView } from '../job/run.ts';
import { keys } from '../redis/keys.ts';
import { BuilderError } from '../service/errors.ts';
import { listJobs, nextTickOf, scheduleFields } from './definitions.ts';
import { droppedPlatforms, knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';
import { readRecord, readRecords, resolveRunId as resolveId } from './records.ts';
import { ticksOfJob } from './tick-counts.ts';
import { listWorkers } from './workers.ts';

export interface RunFilter {
  job?: string | undefined;
  platform?: string | undefined;
  outcome?: Outcome | undefined;
}

/** How many runs one page looks at while it searches for those that a filter asks for. */
const SCAN_MAX = 20_000;
const SCAN_PAGE = 200;
const WAITING_STATES = ['wait', 'prioritized'] as const;

/** Throws `not-found`. */
export async function getRun(queues: Queues, id: string): Promise<Run> {
  const record = await readRecord(queues.redis, id);
  if (record === null) throw new BuilderError('not-found', `no such run: ${id}`);
  return viewOf(queues, record);
}

/** The runs that there are of these ids, in their order. */
export async function viewsOf(queues: Queues, ids: string[]): Promise<Run[]> {
  const records = (await readRecords(queues.redis, ids)).filter((record) => record !== null);
  return Promise.all(records.map((record) => viewOf(queues, record)));
}

/** Throws `not-found`, `ambiguous-id`, InvalidValue. */
export function resolveRunId(queues: Queues, name: string): Promise<string> {
  return resolveId(queues.redis, name);
}

/** Newest first. `next` is a cursor for the following page, null at the end. */
export async function listRuns(queues: Queues, filter: RunFilter & { limit: number; cursor?: string | undefined }): Promise<RunPage> {
  const index = indexOf(filter);
  let position = filter.cursor === undefined ? 0 : await positionAfter(queues, index, filter.cursor);
  const found: RunRecord[] = [];
  for (let scanned = 0; scanned < SCAN_MAX; scanned += SCAN_PAGE) {
    const ids = await queues.redis.zrevrange(index, position, position + SCAN_PAGE - 1);
    for (const record of await readRecords(queues.redis, ids)) {
      position += 1;
      if (record === null || !matches(record, filter)) continue;
      found.push(record);
      if (found.length === filter.limit) break;
    }
    if (found.length === filter.limit || ids.length < SCAN_PAGE) break;
  }
  const last = await queues.redis.zrevrange(index, position - 1, position);
  return { runs: await Promise.all(found.map((record) => viewOf(queues, record))), next: last.length === 2 ? (last[0] ?? null) : null };
}

export async function getInfo(queues: Queues): Promise<Info> {
  const [jobs, platforms, dropped, workers] = await Promise.all([
    listJobs(queues),
    knownPlatforms(queues),
    droppedPlatforms(queues),
    listWorkers(queues),
  ]);
  const [schedule, lists] = await Promise.all([
    Promise.all(jobs.map((job) => scheduleEntry(queues, job))),
    Promise.all(platforms.map((platform) => platformInfo(queues, platform))),
  ]);
  return {
    schedule,
    queues: Object.fromEntries(platforms.map((platform, index) => [platform, lists[index]?.queue ?? { waiting: 0, delayed: 0, next: [] }])),
    running: lists.flatMap((list) => list.running),
    droppedPlatforms: dropped,
    workers,
  };
}

async function scheduleEntry({ redis }: Queues, job: JobDefinition): Promise<ScheduleEntry> {
  const { counts } = await ticksOfJob(redis, job.name);
  return { job: job.name, next: moment(nextTickOf(job, Date.now())), ...scheduleFields(job), paused: job.paused, ticks: counts };
}

export async function viewOf(queues: Queues, record: RunRecord): Promise<Run> {
  if (record.result !== null) return runView(record, 'waiting');
  const state = await platformQueue(queues, record.spec.platform).getJobState(record.spec.id);
  return runView(record, queuedState(state));
}

/** How many runs of a platform are in each state, without looking at them. */
export async function countRuns(queues: Queues, platform: string): Promise<{ waiting: number; delayed: number; running: number }> {
  const counts = await platformQueue(queues, platform).getJobCounts(...WAITING_STATES, 'delayed', 'active');
  const waiting = WAITING_STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  return { waiting, delayed: counts.delayed ?? 0, running: counts.active ?? 0 };
}

async function platformInfo(queues: Queues, platform: string): Promise<{ queue: Info['queues'][string]; running: Run[] }> {
  const queue = platformQueue(queues, platform);
  const [counts, first, active] = await Promise.all([
    queue.getJobCounts(...WAITING_STATES, 'delayed'),
    Promise.all(WAITING_STATES.map((state) => queue.getRanges([state], 0, limits.infoNextMax - 1, true))),
    queue.getRanges(['active'], 0, limits.pageRunsMax - 1, true),
  ]);
  const next = await readRecords(queues.redis, [...new Set(first.flat())].slice(0, limits.infoNextMax));
  const running = await readRecords(queues.redis, active);
  return {
    queue: {
      waiting: WAITING_STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0),
      delayed: counts.delayed ?? 0,
      next: open(next).map((record) => runView(record, 'waiting')),
    },
    running: open(running).map((record) => runView(record, 'running')),
  };
}

function open(records: (RunRecord | null)[]): RunRecord[] {
  return records.filter((record): record is RunRecord => record !== null && record.result === null);
}

/** BullMQ's words for builder's; a job that is missing or ended without a result is about to be queued again by a server. */
function queuedState(state: JobState | 'unknown'): Exclude<RunState, 'finished'> {
  if (state === 'active') return 'running';
  return state === 'delayed' ? 'delayed' : 'waiting';
}

function indexOf(filter: RunFilter): string {
  if (filter.job !== undefined) return keys.runsOfJob(filter.job);
  if (filter.outcome !== undefined) return keys.runsOfOutcome(filter.outcome);
  return filter.platform === undefined ? keys.runs : keys.runsOfPlatform(filter.platform);
}

function matches(record: RunRecord, filter: RunFilter): boolean {
  return (
    (filter.job === undefined || record.spec.job === filter.job) &&
    (filter.platform === undefined || record.spec.platform === filter.platform) &&
    (filter.outcome === undefined || record.result?.outcome === filter.outcome)
  );
}

async function positionAfter(queues: Queues, index: string, cursor: string): Promise<number> {
  const rank = await queues.redis.zrevrank(index, cursor);
  if (rank === null) throw new BuilderError('invalid-value', `expected the cursor of a former page, got ${JSON.stringify(cursor)}`);
  return rank + 1;
}

function moment(atMs: number | null): string | null {
  return atMs === null ? null : new Date(atMs).toISOString();
}
