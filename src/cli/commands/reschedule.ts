/** `reschedule`: says when a job is due next. */
import { parseMoment } from '../../job/schedule.ts';
import { defineCommand } from '../command.ts';
import { checkJobName, given } from '../job-options.ts';
import { describeDue, PERIOD_OPTION } from '../schedule-options.ts';

const reschedule = defineCommand({
  name: 'reschedule',
  describe: 'Say when a job is due next: moves the ticks of a period, gives a cron one extra tick',
  positionals: {
    name: { describe: 'Name of the job', complete: 'jobs' },
    next: { describe: 'Moment as in RFC 3339, not in the past: 2026-11-24T06:00:00+01:00' },
  },
  options: { period: { ...PERIOD_OPTION.period, describe: 'Change the period too: hourly, daily, weekly or never' } },
  run: async ({ name, next, period }, { client, output }) => {
    const moment = new Date(parseMoment(next)).toISOString();
    const job = await client().reschedule(checkJobName(name), { next, ...given('period', period) });
    // Cron goes on as before: its next tick may come first.
    const extra = job.cron === undefined ? '' : `one extra tick at ${moment}\n`;
    await output.show(job, `${describeDue('rescheduled', job)}${extra}`);
    return 0;
  },
});

export const commands = [reschedule];
