/** A schedule as the pattern of a BullMQ job scheduler, which builder's own clock reads back. */
import type { Schedule } from '../job/schedule.ts';
import { Schedule as ScheduleSchema } from '../job/schedule.ts';

export function patternOf(schedule: Schedule): string {
  return JSON.stringify(schedule);
}

/** Anything that is not a schedule has no ticks. */
export function scheduleOfPattern(pattern: string): Schedule {
  try {
    return ScheduleSchema.parse(JSON.parse(pattern));
  } catch {
    return { kind: 'never' };
  }
}
