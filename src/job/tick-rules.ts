/** What becomes of a tick that was not taken in time: pure rules on wall-clock moments, decided by the clock of the server that takes it. */
import { z } from 'zod';
import { limits } from './limits.ts';
import { nextTick, type Schedule } from './schedule.ts';

export const OVERLAPS = ['queue', 'skip', 'cancel'] as const;
export const MISFIRES = ['once', 'skip'] as const;

/** What a job wants of ticks that meet an open run of it (`overlap`), and of those that no server took in time (`misfire`). */
export const TickPolicies = z.object({
  overlap: z.enum(OVERLAPS).default('queue'),
  misfire: z.enum(MISFIRES).default('once'),
});
export type TickPolicies = z.infer<typeof TickPolicies>;

/** What became of a tick: `run`, or why it made none. */
export const TICK_ENDS = ['run', 'misfire', 'overlap', 'fuse', 'paused', 'platform-dropped', 'refused'] as const;

export interface TakenTick {
  misfire: TickPolicies['misfire'];
  tickMs: number;
  /** Of a tick that repeats: its schedule, and the tick that was made after it. Null for a single moment. */
  series: { schedule: Schedule; followingMs: number } | null;
  /** Ticks up to here have been counted as missed; null when none was. */
  countedMs: number | null;
  nowMs: number;
  /** For how long servers have been there without a pause. */
  servedMs: number;
}

export interface JudgedTick {
  verdict: 'run' | 'misfire';
  /** Ticks that are missed and were not counted before; the last of them. */
  missed: number;
  lastMissedMs: number | null;
  countedMs: number | null;
}

/**
 * Of a row of missed ticks only the first is ever made: it stands for all. It counts as missed itself when it is later than
 * limits.tickLateMs and servers were away since its moment; where they were there they were busy. Nothing up to `countedMs` is counted again, so a clock that jumps to and fro adds nothing.
 */
export function judgeTick({ misfire, tickMs, series, countedMs, nowMs, servedMs }: TakenTick): JudgedTick {
  const isLate = nowMs - tickMs > Math.max(limits.tickLateMs, servedMs);
  const isCounted = series !== null && countedMs !== null && tickMs <= countedMs;
  const after = series === null ? NONE : ticksBetween(series.schedule, Math.max(tickMs, countedMs ?? tickMs), series.followingMs);
  const counted = isLate && !isCounted ? 1 : 0;
  const lastMissedMs = after.lastMs ?? (counted === 1 ? tickMs : null);
  return {
    verdict: isLate && misfire === 'skip' ? 'misfire' : 'run',
    missed: after.count + counted,
    lastMissedMs,
    countedMs: series === null ? countedMs : (lastMissedMs ?? countedMs),
  };
}

const NONE = { count: 0, lastMs: null };

/** The ticks strictly between two moments; of cron at most limits.missedTicksCountedMax are counted. */
export function ticksBetween(schedule: Schedule, afterMs: number, beforeMs: number): { count: number; lastMs: number | null } {
  const firstMs = nextTick(schedule, afterMs);
  if (firstMs === null || firstMs >= beforeMs) return NONE;
  if (schedule.kind === 'cron') return countedOneByOne(schedule, firstMs, beforeMs);
  const stepMs = (nextTick(schedule, firstMs) ?? beforeMs) - firstMs;
  const steps = Math.floor((beforeMs - 1 - firstMs) / stepMs);
  return { count: steps + 1, lastMs: firstMs + steps * stepMs };
}

function countedOneByOne(schedule: Schedule, firstMs: number, beforeMs: number): { count: number; lastMs: number } {
  const found = { count: 1, lastMs: firstMs };
  while (found.count < limits.missedTicksCountedMax) {
    const tickMs = nextTick(schedule, found.lastMs);
    if (tickMs === null || tickMs >= beforeMs) break;
    found.count += 1;
    found.lastMs = tickMs;
  }
  return found;
}
