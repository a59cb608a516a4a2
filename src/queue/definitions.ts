/** Stored jobs and the ticks that BullMQ keeps for them. */
import type { ScheduleEntry } from '../job/api.ts';
import { JobDefinition } from '../job/definition.ts';
import { tickRunId } from '../job/derived-ids.ts';
import { formatDuration } from '../job/duration.ts';
import { nextTick, type Period, periodFrom, type Schedule } from '../job/schedule.ts';
import { keys } from '../redis/keys.ts';
import { BuilderError } from '../service/errors.ts';
import { platformsLeft } from './execute.ts';
import { type Queues, tickQueue } from './queues.ts';
import { forgetTicks, ticksOfJob } from './tick-counts.ts';
import { addExtraTick, hasExtraTick, hasTicks, removeExtraTick, startTicks, stopTicks } from './tick-jobs.ts';

/** A NEXT this much in the past is the time that the request took on its way, not a mistake. */
const PAST_TOLERANCE_MS = 1_000;

/** Stores a job and starts its ticks anew. With `onlyNew` a used name throws `name-in-use` and changes nothing. */
export async function putJob(queues: Queues, definition: JobDefinition, options: { onlyNew: boolean }): Promise<void> {
  const text = JSON.stringify(definition);
  let former: JobDefinition | null = null;
  if (options.onlyNew) {
    if ((await queues.redis.hsetnx(keys.jobs, definition.name, text)) === 0) {
      throw new BuilderError('name-in-use', `expected a name that is not in use, got ${definition.name} (--replace changes the job)`);
    }
  } else {
    former = await getJob(queues, definition.name);
    await queues.redis.hset(keys.jobs, definition.name, text);
  }
  if (former === null) await forgetTicks(queues.redis, definition.name);
  else for (const tickMs of extraTicks(former)) await removeExtraTick(tickQueue(queues), definition.name, tickMs);
  await scheduleTicks(queues, definition);
}

export async function getJob(queues: Queues, name: string): Promise<JobDefinition | null> {
  const text = await queues.redis.hget(keys.jobs, name);
  return text === null ? null : JobDefinition.parse(JSON.parse(text));
}

export async function listJobs(queues: Queues): Promise<JobDefinition[]> {
  const all = await queues.redis.hgetall(keys.jobs);
  return Object.values(all)
    .map((text) => JobDefinition.parse(JSON.parse(text)))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** False when there was none. Runs that it has submitted stay. */
export async function removeJob(queues: Queues, name: string): Promise<boolean> {
  const former = await getJob(queues, name);
  if (former === null) return false;
  await queues.redis.hdel(keys.jobs, name);
  await forgetTicks(queues.redis, name);
  await stopTicks(tickQueue(queues), name);
  for (const tickMs of extraTicks(former)) await removeExtraTick(tickQueue(queues), name, tickMs);
  return true;
}

/**
 * Sets when a job is due next: the anchor of a period (or of a new period), the moment of `--at`, for cron and `never` one extra
 * tick. Nothing starts before that moment. Throws `not-found`, `invalid-value` for a moment in the past.
 */
export async function rescheduleJob(queues: Queues, name: string, nextMs: number, period?: Period): Promise<JobDefinition> {
  const former = await getJob(queues, name);
  if (former === null) throw new BuilderError('not-found', `no such job: ${name}`);
  if (nextMs < Date.now() - PAST_TOLERANCE_MS) {
    throw new BuilderError('invalid-value', `expected a time in the future, got ${new Date(nextMs).toISOString()}`);
  }
  const definition = { ...former, ...moved(former, nextMs, period), updatedAt: new Date().toISOString() };
  await putJob(queues, definition, { onlyNew: false });
  return definition;
}

/** The same anew, whatever BullMQ has, and what is past and was never taken: late as it is. */
export async function restartTicks(queues: Queues, definition: JobDefinition): Promise<void> {
  const queue = tickQueue(queues);
  await stopTicks(queue, definition.name);
  await scheduleTicks(queues, definition);
  for (const tickMs of extraTicks(definition))
    if (await isUntaken(queues, definition, tickMs)) await addExtraTick(queue, definition.name, tickMs);
}

/** Starts what the definition asks of BullMQ; the same call again changes nothing. */
export async function scheduleTicks(queues: Queues, definition: JobDefinition): Promise<void> {
  const queue = tickQueue(queues);
  const schedule = repeating(definition);
  if (schedule !== null) await startTicks(queue, definition.name, schedule);
  else await stopTicks(queue, definition.name);
  for (const tickMs of extraTicks(definition)) {
    if (tickMs > Date.now() - PAST_TOLERANCE_MS) await addExtraTick(queue, definition.name, tickMs);
  }
}

/** Whether BullMQ has all that restartTicks would give it at `nowMs`. */
export async function ticksAreScheduled(queues: Queues, definition: JobDefinition, nowMs: number): Promise<boolean> {
  const queue = tickQueue(queues);
  if (!(await hasTicks(queue, definition.name, repeating(definition), nowMs))) return false;
  for (const tickMs of extraTicks(definition)) {
    if (await hasExtraTick(queue, definition.name, tickMs)) continue;
    if (tickMs > nowMs || (await isUntaken(queues, definition, tickMs))) return false;
  }
  return true;
}

/** Whether nothing tells of an extra tick, nor of a later one: no run, and nothing that became of it. */
async function isUntaken(queues: Queues, definition: JobDefinition, tickMs: number): Promise<boolean> {
  const { last } = await ticksOfJob(queues.redis, definition.name);
  if (last !== null && Date.parse(last.at) >= tickMs) return false;
  const runs = (await platformsLeft(queues, definition)).map((platform) => keys.run(tickRunId(definition.id, platform, tickMs)));
  return runs.length === 0 || (await queues.redis.exists(...runs)) === 0;
}

/** The first tick after a moment, extra ticks included; null when none will come. */
export function nextTickOf(definition: JobDefinition, afterMs: number): number | null {
  if (definition.paused) return null;
  const candidates = [nextTick(definition.schedule, afterMs), definition.extraTickMs].filter(
    (at): at is number => at !== null && at > afterMs,
  );
  return candidates.length === 0 ? null : Math.min(...candidates);
}

/** How a schedule is shown: exactly one of period, cron, every, at. */
export function scheduleFields(definition: JobDefinition): Pick<ScheduleEntry, 'period' | 'cron' | 'every' | 'at' | 'tz'> {
  const { schedule } = definition;
  switch (schedule.kind) {
    case 'period':
      return { period: schedule.period, tz: null };
    case 'every':
      return { every: formatDuration(schedule.everyMs), tz: null };
    case 'cron':
      return { cron: schedule.cron, tz: schedule.tz };
    case 'at':
      return { at: new Date(schedule.atMs).toISOString(), tz: null };
    case 'never':
      return { period: 'never', tz: null };
  }
}

function moved(former: JobDefinition, nextMs: number, period?: Period): { schedule: Schedule; extraTickMs: number | null } {
  if (period !== undefined) {
    const schedule = periodFrom(period, nextMs);
    return schedule.kind === 'period'
      ? { schedule: { ...schedule, anchorMs: nextMs }, extraTickMs: null }
      : { schedule, extraTickMs: nextMs };
  }
  const { schedule } = former;
  switch (schedule.kind) {
    case 'period':
    case 'every':
      return { schedule: { ...schedule, anchorMs: nextMs }, extraTickMs: null };
    case 'at':
      return { schedule: { kind: 'at', atMs: nextMs }, extraTickMs: null };
    case 'cron':
    case 'never':
      return { schedule, extraTickMs: nextMs };
  }
}

/** Null for a job that has no ticks of its own accord now. */
function repeating({ schedule, paused }: JobDefinition): Schedule | null {
  return paused || schedule.kind === 'at' || schedule.kind === 'never' ? null : schedule;
}

function extraTicks(definition: JobDefinition): number[] {
  const at = definition.schedule.kind === 'at' ? [definition.schedule.atMs] : [];
  return definition.extraTickMs === null ? at : [...at, definition.extraTickMs];
}
