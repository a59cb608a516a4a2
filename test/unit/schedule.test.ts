import { describe, expect, it } from '@jest/globals';
import { cronSchedule, nextTick, parseMoment, periodFrom, type Schedule } from '../../src/job/schedule.ts';

function ticks(schedule: Schedule, after: string, count: number): string[] {
  const found: string[] = [];
  let atMs: number | null = Date.parse(after);
  for (let n = 0; n < count && atMs !== null; n += 1) {
    atMs = nextTick(schedule, atMs);
    if (atMs !== null) found.push(new Date(atMs).toISOString().replace(':00.000Z', 'Z'));
  }
  return found;
}

const cron = (expression: string, tz: string, after: string, count: number) => ticks(cronSchedule(expression, tz), after, count);

describe('a period', () => {
  it('is first due one period after it was scheduled', () => {
    const now = Date.parse('2026-11-24T10:00:00Z');
    expect(nextTick(periodFrom('daily', now), now)).toBe(now + 86_400_000);
    expect(nextTick(periodFrom('never', now), now)).toBeNull();
  });

  it('does not drift, however late its ticks are asked for', () => {
    const schedule = periodFrom('daily', Date.parse('2026-11-24T10:00:00Z'));
    expect(ticks(schedule, '2026-11-25T10:00:07Z', 1)).toEqual(['2026-11-26T10:00Z']);
    expect(ticks(schedule, '2027-11-25T09:59:59.999Z', 1)).toEqual(['2027-11-25T10:00Z']);
  });
});

describe('cron across daylight saving', () => {
  it('runs a local time that does not exist once, at the first valid minute after', () => {
    expect(cron('30 2 * * *', 'Europe/Berlin', '2026-03-28T00:00:00Z', 3)).toEqual([
      '2026-03-28T01:30Z',
      '2026-03-29T01:00Z',
      '2026-03-30T00:30Z',
    ]);
    expect(cron('15,45 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', 2)).toEqual(['2026-03-29T01:00Z', '2026-03-30T00:15Z']);
    expect(cron('0 0 * * *', 'America/Sao_Paulo', '2018-11-03T12:00:00Z', 2)).toEqual(['2018-11-04T03:00Z', '2018-11-05T02:00Z']);
  });

  it('runs it also where clocks move by half an hour', () => {
    expect(cron('15 2 * * *', 'Australia/Lord_Howe', '2026-10-02T12:00:00Z', 3)).toEqual([
      '2026-10-02T15:45Z',
      '2026-10-03T15:30Z',
      '2026-10-04T15:15Z',
    ]);
  });

  it('runs a local time that exists twice once', () => {
    expect(cron('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 2)).toEqual(['2026-10-25T00:30Z', '2026-10-26T01:30Z']);
    expect(cron('30 2 * * *', 'Europe/Berlin', '2026-10-25T00:45:00Z', 1)).toEqual(['2026-10-26T01:30Z']);
    expect(cron('0 1 * * *', 'America/New_York', '2026-10-31T12:00:00Z', 2)).toEqual(['2026-11-01T05:00Z', '2026-11-02T06:00Z']);
  });

  it('goes on hour by hour where the hours are not fixed', () => {
    expect(cron('0 * * * *', 'Europe/Berlin', '2026-10-24T23:30:00Z', 3)).toEqual([
      '2026-10-25T00:00Z',
      '2026-10-25T01:00Z',
      '2026-10-25T02:00Z',
    ]);
    expect(cron('*/30 * * * *', 'Europe/Berlin', '2026-03-29T00:10:00Z', 3)).toEqual([
      '2026-03-29T00:30Z',
      '2026-03-29T01:00Z',
      '2026-03-29T01:30Z',
    ]);
  });

  it('does so too where clocks move by half an hour, and leaves out no hour', () => {
    expect(cron('0 * * * *', 'Australia/Lord_Howe', '2026-10-03T14:00:00Z', 3)).toEqual([
      '2026-10-03T14:30Z',
      '2026-10-03T15:30Z',
      '2026-10-03T16:00Z',
    ]);
    expect(cron('0 * * * *', 'Australia/Lord_Howe', '2026-04-04T13:30:00Z', 3)).toEqual([
      '2026-04-04T14:00Z',
      '2026-04-04T15:30Z',
      '2026-04-04T16:30Z',
    ]);
    expect(cron('45 * * * *', 'Australia/Lord_Howe', '2026-04-04T14:30:00Z', 2)).toEqual(['2026-04-04T14:45Z', '2026-04-04T15:15Z']);
  });

  it('means local time where it names every second hour', () => {
    expect(cron('30 */2 * * *', 'Europe/Berlin', '2026-03-28T23:00:00Z', 3)).toEqual([
      '2026-03-28T23:30Z',
      '2026-03-29T01:00Z',
      '2026-03-29T02:30Z',
    ]);
    expect(cron('30 */2 * * *', 'Europe/Berlin', '2026-10-24T22:00:00Z', 3)).toEqual([
      '2026-10-24T22:30Z',
      '2026-10-25T00:30Z',
      '2026-10-25T03:30Z',
    ]);
  });

  it.each([
    ['Europe/Berlin', '2026-03-29'],
    ['Europe/Berlin', '2026-10-25'],
    ['Australia/Lord_Howe', '2026-04-05'],
    ['Australia/Lord_Howe', '2026-10-04'],
    ['Africa/Casablanca', '2026-02-15'],
    ['Africa/Casablanca', '2026-03-22'],
    ['America/Scoresbysund', '2026-10-25'],
  ])('never ends, nor pauses for long: %s around %s', (zone, day) => {
    for (const expression of ['0 * * * *', '@hourly', '40 */3 * * *', '*/20 * * * *']) {
      const schedule = cronSchedule(expression, zone);
      const endMs = Date.parse(day) + 86_400_000;
      for (let atMs = Date.parse(day) - 86_400_000; atMs < endMs; ) {
        const next = nextTick(schedule, atMs) ?? 0;
        expect(next).toBeGreaterThan(atMs);
        expect(next - atMs).toBeLessThanOrEqual((expression.includes('/3') ? 4 : 1.5) * 3_600_000);
        atMs = next;
      }
    }
  });

  it('never gives a tick twice, nor one that is past', () => {
    for (const zone of ['Europe/Berlin', 'Australia/Lord_Howe', 'America/New_York', 'Africa/Casablanca', 'Asia/Kathmandu']) {
      const schedule = cronSchedule('30 2 * * *', zone);
      let atMs = Date.parse('2026-01-01T00:00:00Z');
      for (let n = 0; n < 370; n += 1) {
        const next = nextTick(schedule, atMs);
        expect(next).toBeGreaterThan(atMs);
        expect((next ?? 0) - atMs).toBeLessThanOrEqual(26 * 3_600_000);
        atMs = next ?? 0;
      }
    }
  });
});

describe('cron', () => {
  it.each(['', '* * * *', '61 * * * *', '* * * * * * *', 'every day', '0 0 31 2 *'])('refuses %p', (expression) => {
    expect(() => cronSchedule(expression, 'UTC')).toThrow(/^expected a cron expression/);
  });

  it('refuses a zone that nobody knows', () => {
    expect(() => cronSchedule('0 0 * * *', 'Europe/Berlinn')).toThrow(/^expected a time zone/);
  });

  it('knows ranges, lists, steps, names and the last day', () => {
    expect(cron('0 9 * * mon-fri', 'UTC', '2026-11-27T12:00:00Z', 1)).toEqual(['2026-11-30T09:00Z']);
    expect(cron('0 0 L * *', 'UTC', '2026-02-01T00:00:00Z', 1)).toEqual(['2026-02-28T00:00Z']);
    expect(cron('@daily', 'UTC', '2026-02-01T00:00:00Z', 1)).toEqual(['2026-02-02T00:00Z']);
  });
});

describe('a moment', () => {
  it('is read with any offset', () => {
    expect(parseMoment('2026-11-24T06:00:00+01:00')).toBe(Date.parse('2026-11-24T05:00:00Z'));
    expect(parseMoment('2026-11-24t06:00:00.5z')).toBe(Date.parse('2026-11-24T06:00:00.500Z'));
  });

  it.each(['2026-11-24T06:00:00', '2026-02-30T06:00:00Z', 'tomorrow', '2026-11-24', '2026-11-24T25:00:00Z'])('refuses %p', (text) => {
    expect(() => parseMoment(text)).toThrow(/^expected a time as in RFC 3339/);
  });
});
