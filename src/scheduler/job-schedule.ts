/** From the words of a request to a job's schedule. */
import type { PutJob } from '../job/api.ts';
import type { JobDefinition } from '../job/definition.ts';
import { parseDuration } from '../job/duration.ts';
import { limits } from '../job/limits.ts';
import { cronSchedule, parseMoment, periodFrom, type Schedule } from '../job/schedule.ts';
import { BuilderError } from '../service/errors.ts';
import { checked } from './parse.ts';

type Words = { [K in 'period' | 'cron' | 'tz' | 'every' | 'at']: PutJob[K] };

/** `daily` when nothing is said. Throws `invalid-value`, also for two schedules and for a moment that is past. */
export function scheduleOf(words: Words, known: JobDefinition | null, nowMs: number): Pick<JobDefinition, 'schedule' | 'extraTickMs'> {
  const { period, cron, tz, every, at } = words;
  const given = Object.entries({ period, cron, every, at }).filter(([, value]) => value !== undefined);
  if (given.length > 1) throw refused(`expected one of period, cron, every, at, got ${given.map(([name]) => name).join(' and ')}`);
  if (tz !== undefined && cron === undefined) throw refused('expected tz with cron alone');
  const schedule = checked(() => {
    if (cron !== undefined) return cronSchedule(cron, tz ?? 'UTC');
    if (every !== undefined) return everySchedule(every, nowMs);
    if (at !== undefined) return atSchedule(at, known?.schedule, nowMs);
    return periodFrom(period ?? 'daily', nowMs);
  });
  // The same schedule again is no reason to begin anew: the next tick stays where it was.
  if (known !== null && isSame(known.schedule, schedule)) return { schedule: known.schedule, extraTickMs: known.extraTickMs };
  return { schedule, extraTickMs: null };
}

function everySchedule(every: string, nowMs: number): Schedule {
  const everyMs = parseDuration(every);
  if (everyMs < limits.everyMsMin || everyMs > limits.everyMsMax) throw refused(`expected an interval of 1s to 366d, got ${every}`);
  return { kind: 'every', everyMs, anchorMs: nowMs + everyMs };
}

/** A moment that is past is no mistake where the job has it already: defining it again changes nothing. */
function atSchedule(at: string, known: Schedule | undefined, nowMs: number): Schedule {
  const atMs = parseMoment(at);
  if (atMs < nowMs && !(known?.kind === 'at' && known.atMs === atMs)) throw refused(`expected a time in the future, got ${at}`);
  return { kind: 'at', atMs };
}

function isSame(known: Schedule, wanted: Schedule): boolean {
  const plain = (schedule: Schedule): string => JSON.stringify({ ...schedule, anchorMs: 0 });
  return plain(known) === plain(wanted);
}

function refused(message: string): BuilderError {
  return new BuilderError('invalid-value', message);
}
