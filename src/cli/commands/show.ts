/** `show`: all that is known of a run. */
import type { Run } from '../../job/run.ts';
import { defineCommand } from '../command.ts';
import { endingOf } from '../observing.ts';
import { duration, fields, shortMoment, table } from '../table.ts';

const show = defineCommand({
  name: 'show',
  describe: 'Show all that is known of a run',
  positionals: { run: { describe: 'Id of the run, or its first 8 characters', complete: 'runs' } },
  options: {},
  run: async (args, { client, output }) => {
    const run = await client().run(args.run);
    await output.show(run, textOf(run));
    return 0;
  },
});

export const commands = [show];

function textOf(run: Run): string {
  const text = fields([
    ['run', run.id],
    ['job', run.job],
    ['platform', run.platform],
    ['state', run.outcome === null ? run.state : endingOf(run)],
    ['trigger', run.trigger],
    ['labels', pairs(run.labels)],
    ['worker', run.worker],
    ['created', shortMoment(run.createdAt)],
    ['started', run.startedAt && shortMoment(run.startedAt)],
    ['finished', run.finishedAt && shortMoment(run.finishedAt)],
    ['took', run.startedAt && run.finishedAt && duration(run.startedAt, run.finishedAt)],
    ['cancel asked', run.cancelRequestedAt && shortMoment(run.cancelRequestedAt)],
    ['log', run.state === 'finished' ? logText(run.log) : null],
    ['artifacts', run.state === 'finished' ? run.artifactCount : null],
  ]);
  return [text, attemptTable(run)].filter((part) => part !== '').join('\n');
}

function attemptTable({ attempts }: Run): string {
  return table(
    [
      { title: 'ATTEMPT', right: true },
      { title: 'WORKER' },
      { title: 'STARTED' },
      { title: 'TOOK', right: true },
      { title: 'ENDED' },
      { title: 'KILLED' },
    ],
    attempts.map((one) => [
      one.number,
      one.worker,
      shortMoment(one.startedAt),
      duration(one.startedAt, one.finishedAt),
      [one.outcome ?? 'not yet', one.exitCode ?? one.signal ?? ''].join(' ').trim(),
      one.killed.map(({ pid, command }) => `${command} (${pid})`).join(', '),
    ]),
  );
}

function logText({ lines, bytes, truncated, missing }: Run['log']): string {
  const notes = [truncated ? 'cut in the middle' : '', missing > 0 ? `${missing} lines missing` : ''].filter((note) => note !== '');
  return [`${lines} lines, ${bytes} bytes`, ...notes].join(', ');
}

function pairs(labels: Record<string, string>): string | null {
  const texts = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return texts.length === 0 ? null : texts.join(' ');
}
