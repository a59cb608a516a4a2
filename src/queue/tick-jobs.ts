/** Ticks as BullMQ keeps them: a job scheduler per repeating job, a delayed job per extra tick. */
import type { Queue } from 'bullmq';
import { nextTick, type Schedule } from '../job/schedule.ts';
import { ticksBetween } from '../job/tick-rules.ts';
import { patternOf } from './pattern.ts';

/** A tick is tried until it is submitted: Redis or the store may be away for long. */
const TICK_OPTIONS = {
  attempts: 100_000,
  backoff: { type: 'fixed', delay: 2_000 },
  removeOnComplete: { count: 200 },
  removeOnFail: { count: 200 },
};

/** Makes or changes the scheduler of a job; an equal one is left alone, so that no tick is made twice. */
export async function startTicks(queue: Queue, name: string, schedule: Schedule): Promise<void> {
  const pattern = patternOf(schedule);
  const known = await queue.getJobScheduler(name);
  if (known?.pattern === pattern) return;
  await queue.upsertJobScheduler(name, { pattern }, { name, data: { job: name }, opts: TICK_OPTIONS });
}

/** Whether BullMQ has what a schedule asks for, its next tick no later than it should be at `nowMs`; null asks for no scheduler. */
export async function hasTicks(queue: Queue, name: string, schedule: Schedule | null, nowMs: number): Promise<boolean> {
  const known = await queue.getJobScheduler(name);
  if (schedule === null || known === undefined) return schedule === null && known === undefined;
  return known.pattern === patternOf(schedule) && (known.next ?? 0) <= (nextTick(schedule, nowMs) ?? Number.POSITIVE_INFINITY);
}

export async function hasExtraTick(queue: Queue, name: string, tickMs: number): Promise<boolean> {
  return (await queue.getJob(extraTickId(name, tickMs))) !== undefined;
}

export async function stopTicks(queue: Queue, name: string): Promise<void> {
  await queue.removeJobScheduler(name);
}

/** One tick at a moment, beside or without a scheduler; adding it again changes nothing. */
export async function addExtraTick(queue: Queue, name: string, tickMs: number): Promise<void> {
  await queue.add(name, { job: name }, { ...TICK_OPTIONS, jobId: extraTickId(name, tickMs), delay: Math.max(0, tickMs - Date.now()) });
}

export async function removeExtraTick(queue: Queue, name: string, tickMs: number): Promise<void> {
  await queue.remove(extraTickId(name, tickMs));
}

export interface Tick {
  /** Of BullMQ's job. */
  id: string;
  job: string;
  tickMs: number;
  /** False for an extra tick. */
  repeats: boolean;
}

/** The tick of an id `repeat:NAME:MS` or `extra:NAME:MS`; null for a job that is no tick. */
export function tickOfId(id: string): Tick | null {
  const match = /^(repeat|extra):([a-z0-9][a-z0-9._-]{0,62}):(\d+)$/.exec(id);
  return match === null ? null : { id, job: match[2] ?? '', tickMs: Number(match[3]), repeats: match[1] === 'repeat' };
}

/**
 * The tick that BullMQ made when it handed out this one; null where there is no scheduler any more. The scheduler knows the newest, and those
 * between may have been taken already, by a neighbour within the millisecond: their jobs are there.
 */
export async function followingTick(queue: Queue, { job, tickMs }: Tick, schedule: Schedule): Promise<number | null> {
  let followingMs = (await queue.getJobScheduler(job))?.next ?? null;
  while (followingMs !== null) {
    const { lastMs } = ticksBetween(schedule, tickMs, followingMs);
    if (lastMs === null || (await queue.getJob(`repeat:${job}:${lastMs}`)) === undefined) break;
    followingMs = lastMs;
  }
  return followingMs;
}

function extraTickId(name: string, tickMs: number): string {
  return `extra:${name}:${tickMs}`;
}
