import { describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { cronSchedule, nextTick, type Schedule } from '../../src/job/schedule.ts';
import { judgeTick, type TakenTick, ticksBetween } from '../../src/job/tick-rules.ts';

const AT = Date.parse('2026-11-24T10:00:00Z');
const SECOND = 1_000;
const everySecond: Schedule = { kind: 'every', everyMs: SECOND, anchorMs: AT };
const berlin = (expression: string) => cronSchedule(expression, 'Europe/Berlin');
const between = (schedule: Schedule, after: string, before: string) => ticksBetween(schedule, Date.parse(after), Date.parse(before));

function judged(lateMs: number, given: Partial<TakenTick> = {}) {
  const nowMs = AT + lateMs;
  const series = { schedule: everySecond, followingMs: nextTick(everySecond, nowMs) ?? 0 };
  return judgeTick({ misfire: 'once', tickMs: AT, series, countedMs: null, nowMs, servedMs: 0, ...given });
}

describe('a tick', () => {
  it('in time runs, and nothing was missed', () => {
    for (const misfire of ['once', 'skip'] as const)
      expect(judged(3, { misfire })).toEqual({ verdict: 'run', missed: 0, lastMissedMs: null, countedMs: null });
  });

  it('as late as a server that takes over from a dead one runs under either rule, and is not missed; those after it are', () => {
    for (const misfire of ['once', 'skip'] as const) {
      const late = limits.tickLateMs;
      expect(judged(late, { misfire })).toEqual({ verdict: 'run', missed: 20, lastMissedMs: AT + late, countedMs: AT + late });
    }
  });

  it('later than that is missed with those after it: one run stands for all, or none', () => {
    const late = { missed: 61, lastMissedMs: AT + 60 * SECOND, countedMs: AT + 60 * SECOND };
    expect(judged(60 * SECOND)).toEqual({ verdict: 'run', ...late });
    expect(judged(60 * SECOND, { misfire: 'skip' })).toEqual({ verdict: 'misfire', ...late });
  });

  it('later than that runs under either rule while servers were there and busy; those after it were made by nobody', () => {
    const busy = { missed: 60, lastMissedMs: AT + 60 * SECOND, countedMs: AT + 60 * SECOND };
    for (const misfire of ['once', 'skip'] as const)
      expect(judged(60 * SECOND, { misfire, servedMs: 60 * SECOND })).toEqual({ verdict: 'run', ...busy });
    expect(judged(60 * SECOND, { misfire: 'skip', servedMs: 59 * SECOND })).toMatchObject({ verdict: 'misfire', missed: 61 });
  });

  it('of a single moment is missed alone', () => {
    expect(judged(3_600 * SECOND, { series: null, misfire: 'skip' })).toEqual({
      verdict: 'misfire',
      missed: 1,
      lastMissedMs: AT,
      countedMs: null,
    });
  });

  it('is not counted again when a clock that had jumped ahead is set back, or when it is taken late beside newer ones', () => {
    const ahead = judged(3_600 * SECOND);
    expect(ahead.missed).toBe(3_601);
    const following = { schedule: everySecond, followingMs: AT + 2 * SECOND };
    const back = judged(0, { tickMs: AT + SECOND, series: following, countedMs: ahead.countedMs });
    expect(back).toEqual({ verdict: 'run', missed: 0, lastMissedMs: null, countedMs: ahead.countedMs });
    expect(judged(60 * SECOND, { countedMs: AT + 60 * SECOND }).missed).toBe(0);
  });

  it('taken by a server whose clock is behind is in time', () => {
    expect(judged(-3_600 * SECOND, { series: { schedule: everySecond, followingMs: AT + SECOND } })).toMatchObject({
      verdict: 'run',
      missed: 0,
    });
  });
});

describe('the ticks between two moments', () => {
  it('are counted without their ends, however many', () => {
    expect(ticksBetween(everySecond, AT, AT + SECOND)).toEqual({ count: 0, lastMs: null });
    expect(ticksBetween(everySecond, AT, AT + SECOND + 1)).toEqual({ count: 1, lastMs: AT + SECOND });
    const year = 365 * 86_400 * SECOND;
    expect(ticksBetween(everySecond, AT, AT + year)).toEqual({ count: 365 * 86_400 - 1, lastMs: AT + year - SECOND });
  });

  it('of cron are those of the calendar: one a day where clocks change', () => {
    expect(between(berlin('30 2 * * *'), '2026-03-27T12:00:00Z', '2026-03-31T12:00:00Z')).toEqual({
      count: 4,
      lastMs: Date.parse('2026-03-31T00:30:00Z'),
    });
    expect(between(berlin('30 2 * * *'), '2026-10-23T12:00:00Z', '2026-10-27T12:00:00Z').count).toBe(4);
  });

  it('of cron are counted up to a bound, so that an outage of years holds nobody up', () => {
    expect(between(berlin('* * * * *'), '2020-01-01T00:00:00Z', '2026-01-01T00:00:00Z').count).toBe(limits.missedTicksCountedMax);
  });

  it('are none for what has a single moment, or none', () => {
    expect(ticksBetween({ kind: 'never' }, AT, AT + SECOND)).toEqual({ count: 0, lastMs: null });
    expect(ticksBetween({ kind: 'at', atMs: AT }, AT - SECOND, AT + SECOND)).toEqual({ count: 1, lastMs: AT });
  });
});
