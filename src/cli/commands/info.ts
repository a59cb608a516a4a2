/** `info`: the schedule, the queues, what runs, and the workers. */
import type { Info, TickCounts } from '../../job/api.ts';
import { defineCommand } from '../command.ts';
import { runningTable, workerTable } from '../listing.ts';
import { describeSchedule } from '../schedule-options.ts';
import { shortIds, shortMoment, table } from '../table.ts';

const info = defineCommand({
  name: 'info',
  describe: 'Show the schedule, the queues, what runs, dropped platforms and workers',
  positionals: {},
  options: {},
  run: async (_, { client, output }) => {
    const answer = await client().info();
    await output.show(answer, textOf(answer));
    return 0;
  },
});

export const commands = [info];

function textOf(answer: Info): string {
  const dropped = answer.droppedPlatforms.map((platform) => `${platform}\n`).join('');
  return [
    section('Schedule', scheduleTable(answer), 'no jobs'),
    section('Queues', queueTable(answer), 'nothing waits'),
    section('Next', nextTable(answer), null),
    section('Running', runningTable(answer.running), 'nothing runs'),
    section('Dropped platforms', dropped, null),
    section('Workers', workerTable(answer.workers), 'no workers'),
  ]
    .filter((text) => text !== '')
    .join('\n');
}

/** Without rows the one line that says so, or nothing. */
function section(title: string, rows: string, otherwise: string | null): string {
  const body = rows === '' && otherwise !== null ? `${otherwise}\n` : rows;
  return body === '' ? '' : `${title}\n${body.replace(/^(?=.)/gm, '  ')}`;
}

function scheduleTable({ schedule }: Info): string {
  const notes = schedule.map(({ ticks }) => tickNote(ticks));
  const columns = [{ title: 'JOB' }, { title: 'SCHEDULE' }, { title: 'NEXT' }];
  return table(
    notes.every((note) => note === '') ? columns : [...columns, { title: 'NOTE' }],
    schedule.map((entry, index) => [
      entry.job,
      describeSchedule(entry),
      entry.paused ? 'paused' : shortMoment(entry.next),
      notes[index] ?? '',
    ]),
  );
}

/** `missed 3, last 2026-…`: only what is not zero. */
function tickNote(ticks: TickCounts): string {
  const counts: [string, number, string | null][] = [
    ['missed', ticks.missed, ticks.lastMissedAt],
    ['skipped', ticks.skipped, ticks.lastSkippedAt],
    ['held back', ticks.fused, ticks.lastFusedAt],
  ];
  return counts
    .filter(([, count]) => count > 0)
    .map(([name, count, last]) => `${name} ${count}, last ${shortMoment(last)}`)
    .join('; ');
}

function queueTable({ queues, workers, droppedPlatforms }: Info): string {
  const note = (platform: string, waiting: number): string => {
    if (droppedPlatforms.includes(platform)) return 'dropped';
    return waiting > 0 && !workers.some((one) => one.platforms.includes(platform)) ? 'no worker for it' : '';
  };
  return table(
    [{ title: 'PLATFORM' }, { title: 'WAITING', right: true }, { title: 'DELAYED', right: true }, { title: 'NOTE' }],
    Object.entries(queues).map(([platform, { waiting, delayed }]) => [platform, waiting, delayed, note(platform, waiting)]),
  );
}

function nextTable({ queues }: Info): string {
  const runs = Object.values(queues).flatMap(({ next }) => next);
  const ids = shortIds(runs.map((run) => run.id));
  return table(
    [{ title: 'RUN' }, { title: 'JOB' }, { title: 'PLATFORM' }, { title: 'STATE' }, { title: 'CREATED' }],
    runs.map((run) => [ids.get(run.id) ?? run.id, run.job, run.platform, run.state, shortMoment(run.createdAt)]),
  );
}
