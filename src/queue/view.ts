/** What people see of runs: records, and for unfinished ones the state of their BullMQ job. */
import type { JobState } from 'bullmq';
import type { Info, ScheduleEntry } from '../job/api.ts';
import type { JobDefinition } from '../job/definition.ts';
import { limits } from '../job/limits.ts';
import { type Run, type RunRecord, type RunState, runView } from '../job/run.ts';
import { BuilderError } from '../service/errors.ts';
import { listJobs, nextTickOf, scheduleFields } from './definitions.ts';
import { droppedPlatforms, knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';
import { readRecord, readRecords, resolveRunId as resolveId } from './records.ts';
import { ticksOfJob } from './tick-counts.ts';
import { listWorkers } from './workers.ts';

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

function moment(atMs: number | null): string | null {
  return atMs === null ? null : new Date(atMs).toISOString();
}
