/** `execute`: runs a job now, ahead of what waits. */
import { checkName } from '../../job/names.ts';
import type { Run } from '../../job/run.ts';
import { defineCommand } from '../command.ts';
import { checkJobName } from '../job-options.ts';
import { EXIT_ZERO, observeRuns } from '../observing.ts';
import { sayUnserved } from '../unserved.ts';

const execute = defineCommand({
  name: 'execute',
  describe: 'Run a job now, ahead of what waits, and print the id of its run on each of its platforms',
  positionals: { name: { describe: 'Name of the job', complete: 'jobs' } },
  options: {
    platform: { kind: 'text', describe: "Only on this one of the job's platforms", complete: 'platforms' },
    follow: { kind: 'flag', describe: "Follow the log; the exit code is the script's" },
    ...EXIT_ZERO,
  },
  run: async (args, session) => {
    const { output } = session;
    const name = checkJobName(args.name);
    const platform = args.platform === undefined ? undefined : checkName('platform', args.platform);
    const begin = () => session.client().execute(name, platform);
    const warn = (runs: Run[]) =>
      sayUnserved(
        session,
        runs.map((run) => run.platform),
      );
    if (!args.follow) {
      const runs = await begin();
      await output.show({ runs }, runs.map(({ id }) => `${id}\n`).join(''));
      await warn(runs);
      return 0;
    }
    const said = async () => {
      const runs = await begin();
      for (const { id } of runs) output.say(id);
      await warn(runs);
      return runs;
    };
    return observeRuns(session, said, { from: 1, follow: true, exitZero: args['exit-zero'] });
  },
});

export const commands = [execute];
