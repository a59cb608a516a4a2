/** When a job's ticks are due: pure functions of a schedule and a moment. */
import { CronExpressionParser } from 'cron-parser';
import { z } from 'zod';
import { InvalidValue } from './invalid-value.ts';
import { limits } from './limits.ts';
import { clockChange, momentOf, wallTimeOf } from './wall-clock.ts';

export const PERIODS = ['hourly', 'daily', 'weekly', 'never'] as const;
export type Period = (typeof PERIODS)[number];

const HOUR_MS = 3_600_000;
const CLOCK_CHANGE_MS_MAX = 3 * HOUR_MS;
const PERIOD_MS = { hourly: HOUR_MS, daily: 24 * HOUR_MS, weekly: 7 * 24 * HOUR_MS };

/** Anchors and single moments are milliseconds since the epoch; a period's ticks are anchor + k × period, so they never drift. */
export const Schedule = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('period'), period: z.enum(['hourly', 'daily', 'weekly']), anchorMs: z.int() }),
  z.object({ kind: z.literal('every'), everyMs: z.int().min(limits.everyMsMin).max(limits.everyMsMax), anchorMs: z.int() }),
  z.object({ kind: z.literal('cron'), cron: z.string().max(256), tz: z.string().max(64) }),
  z.object({ kind: z.literal('at'), atMs: z.int() }),
  z.object({ kind: z.literal('never') }),
]);
export type Schedule = z.infer<typeof Schedule>;

/** The first tick strictly after a moment (both in ms since the epoch), or null when there is none. */
export function nextTick(schedule: Schedule, afterMs: number): number | null {
  switch (schedule.kind) {
    case 'period':
      return nextOfSeries(schedule.anchorMs, PERIOD_MS[schedule.period], afterMs);
    case 'every':
      return nextOfSeries(schedule.anchorMs, schedule.everyMs, afterMs);
    case 'cron':
      return nextOfCron(schedule.cron, schedule.tz, afterMs);
    case 'at':
      return schedule.atMs > afterMs ? schedule.atMs : null;
    case 'never':
      return null;
  }
}

/** A schedule of a period that is first due one period from now. */
export function periodFrom(period: Period, nowMs: number): Schedule {
  if (period === 'never') return { kind: 'never' };
  return { kind: 'period', period, anchorMs: nowMs + PERIOD_MS[period] };
}

/** Throws InvalidValue for an expression that cron-parser refuses, that never fires, or an unknown zone. */
export function cronSchedule(cron: string, tz: string): Schedule {
  checkTimeZone(tz);
  const fields = cron.trim().split(/\s+/);
  if (!cron.trim().startsWith('@') && fields.length !== 5) {
    throw new InvalidValue(`expected a cron expression of 5 fields such as '30 2 * * *', got ${JSON.stringify(cron)}`);
  }
  try {
    CronExpressionParser.parse(cron.trim(), { tz }).next();
  } catch (cause) {
    const why = cause instanceof Error ? `: ${cause.message.split('\n')[0]}` : '';
    throw new InvalidValue(`expected a cron expression such as '30 2 * * *', got ${JSON.stringify(cron)}${why}`);
  }
  return { kind: 'cron', cron: fields.join(' '), tz };
}

export function checkTimeZone(tz: string): void {
  try {
    new Intl.DateTimeFormat('en', { timeZone: tz });
  } catch {
    throw new InvalidValue(`expected a time zone such as Europe/Berlin or UTC, got ${JSON.stringify(tz)}`);
  }
}

/** Milliseconds of an RFC 3339 moment with an offset; throws InvalidValue otherwise. */
export function parseMoment(text: string): number {
  const match = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.exec(text);
  const atMs = match === null ? Number.NaN : Date.parse(text.replace(' ', 'T').toUpperCase());
  const day = match === null ? 0 : Number(match[3]);
  const daysInMonth = match === null ? 0 : new Date(Date.UTC(Number(match[1]), Number(match[2]), 0)).getUTCDate();
  if (Number.isNaN(atMs) || day > daysInMonth) {
    throw new InvalidValue(`expected a time as in RFC 3339 such as 2026-11-24T06:00:00+01:00, got ${JSON.stringify(text)}`);
  }
  return atMs;
}

function nextOfSeries(anchorMs: number, stepMs: number, afterMs: number): number {
  if (anchorMs > afterMs) return anchorMs;
  return anchorMs + (Math.floor((afterMs - anchorMs) / stepMs) + 1) * stepMs;
}

/**
 * As users of cron expect across daylight saving: an expression of some hours means local time, where one that does not exist
 * runs once, at the first minute after, and one that exists twice runs once; one of every hour goes on hour by hour (cron(8)).
 */
function nextOfCron(cron: string, tz: string, afterMs: number): number | null {
  const hours = cron.split(' ').at(-4);
  const isOfEveryHour = hours === '*' || hours === '*/1' || cron === '@hourly' || cron === '@minutely';
  try {
    return isOfEveryHour ? nextOfEveryHour(cron, tz, afterMs) : nextOfHours(cron, tz, afterMs);
  } catch {
    return null;
  }
}

function nextOfHours(cron: string, tz: string, afterMs: number): number {
  // Begins early enough that no local time which a change of clocks moved is missed.
  const ticks = ticksOf(cron, wallTimeOf(afterMs, tz) - CLOCK_CHANGE_MS_MAX);
  for (;;) {
    const atMs = momentOf(ticks.next().getTime(), tz);
    if (atMs > afterMs) return atMs;
  }
}

/** Local times as they come, those that exist twice too. Clocks put forward by a part of an hour leave out a time that no other stands for. */
function nextOfEveryHour(cron: string, tz: string, afterMs: number): number {
  let offset = wallTimeOf(afterMs, tz) - afterMs;
  for (let [sinceMs, afterWallMs] = [afterMs, afterMs + offset]; ; ) {
    const wallMs = ticksOf(cron, afterWallMs).next().getTime();
    const changeMs = clockChange(sinceMs, wallMs - offset, tz);
    if (changeMs === null) return wallMs - offset;
    const ahead = wallTimeOf(changeMs, tz) - changeMs - offset;
    offset += ahead;
    if (wallMs < changeMs + offset && ahead % HOUR_MS !== 0) return changeMs;
    [sinceMs, afterWallMs] = [changeMs, changeMs + offset - 1];
  }
}

function ticksOf(cron: string, afterWallMs: number): ReturnType<typeof CronExpressionParser.parse> {
  return CronExpressionParser.parse(cron, { tz: 'UTC', currentDate: new Date(afterWallMs) });
}
