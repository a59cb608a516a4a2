/** When a job is due, as `schedule` and `orb-build` take it and print it. */
import type { Job, PutJob, ScheduleEntry } from '../job/api.ts';
import { parseDuration } from '../job/duration.ts';
import { checkTimeZone, cronSchedule, PERIODS, parseMoment } from '../job/schedule.ts';
import { MISFIRES, OVERLAPS, type TickPolicies } from '../job/tick-rules.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import type { Options, Values } from './command.ts';
import { given } from './job-options.ts';
import { shortMoment } from './table.ts';

export const PERIOD_OPTION = {
  period: { kind: 'text', describe: 'hourly, daily, weekly or never (default daily)', choices: PERIODS },
} as const satisfies Options;

export const SCHEDULE_OPTIONS = {
  ...PERIOD_OPTION,
  cron: { kind: 'text', describe: "EXPR of 5 fields such as '30 2 * * *', instead of a period" },
  tz: { kind: 'text', describe: 'ZONE that --cron is meant in, such as Europe/Berlin (default UTC)' },
  every: { kind: 'text', describe: 'Duration between two ticks such as 90s or 6h, instead of a period' },
  at: { kind: 'text', describe: 'One moment as in RFC 3339, instead of a period' },
} as const satisfies Options;

/** What becomes of ticks that meet an open run, and of those that nobody took in time. */
export const TICK_OPTIONS = {
  overlap: {
    kind: 'text',
    describe: 'While a run of the job is open, a tick waits behind it (queue), makes no run (skip) or ends it (cancel); default queue',
    choices: OVERLAPS,
  },
  misfire: {
    kind: 'text',
    describe: 'Ticks missed while no server was there make one late run (once) or none (skip); default once',
    choices: MISFIRES,
  },
} as const satisfies Options;

type When = Pick<PutJob, 'period' | 'cron' | 'tz' | 'every' | 'at'>;

/** Refuses what the server would refuse, before any input is sent to it. */
export function readSchedule(args: Values<Record<never, never>, typeof SCHEDULE_OPTIONS>): When {
  const { period, cron, tz, every, at } = args;
  const flags = Object.entries({ period, cron, every, at }).filter(([, value]) => value !== undefined);
  if (flags.length > 1) throw new BuilderError('usage', `expected one schedule, got ${flags.map(([name]) => `--${name}`).join(' and ')}`);
  if (tz !== undefined && cron === undefined) throw new BuilderError('usage', 'expected --tz together with --cron, got it alone');
  check('tz', tz, checkTimeZone);
  check('cron', cron, (text) => cronSchedule(text, tz ?? 'UTC'));
  check('every', every, parseDuration);
  check('at', at, parseMoment);
  return { ...given('period', period), ...given('cron', cron), ...given('tz', tz), ...given('every', every), ...given('at', at) };
}

export function readTickOptions({ overlap, misfire }: Values<Record<never, never>, typeof TICK_OPTIONS>): Partial<TickPolicies> {
  return { ...given('overlap', overlap), ...given('misfire', misfire) };
}

/** `scheduled NAME on debian-12, next 2026-…`. */
export function describeDue(verb: string, job: Job): string {
  const platforms = job.platforms.length === 0 ? 'no platform yet' : job.platforms.join(', ');
  return `${verb} ${job.name} on ${platforms}, ${job.next === null ? 'without a next tick' : `next ${shortMoment(job.next)}`}\n`;
}

/** `daily`, `cron 30 2 * * * (Europe/Berlin)`, `every 6h`, `at 2026-…`. */
export function describeSchedule({ period, cron, tz, every, at }: Pick<ScheduleEntry, 'period' | 'cron' | 'every' | 'at' | 'tz'>): string {
  if (cron !== undefined) return `cron ${cron}${tz === null ? '' : ` (${tz})`}`;
  if (every !== undefined) return `every ${every}`;
  if (at !== undefined) return `at ${shortMoment(at)}`;
  return period ?? 'never';
}

function check(flag: string, text: string | undefined, read: (text: string) => unknown): void {
  if (text === undefined) return;
  try {
    read(text);
  } catch (cause) {
    throw new BuilderError('invalid-value', `--${flag}: ${oneLine(cause)}`, { cause });
  }
}
