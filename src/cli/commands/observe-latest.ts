/** `observe-latest`: observes the newest run, of all or of a job or platform. */
import { checkName } from '../../job/names.ts';
import type { Run } from '../../job/run.ts';
import { BuilderError } from '../../service/errors.ts';
import type { Client } from '../client.ts';
import { defineCommand } from '../command.ts';
import { checkJobName, given } from '../job-options.ts';
import { OBSERVE_OPTIONS, observeRun, readObserveOptions } from '../observing.ts';

const observeLatest = defineCommand({
  name: 'observe-latest',
  describe: 'Observe the newest run, of all or of one job or platform',
  positionals: {},
  options: {
    platform: { kind: 'text', describe: 'The newest run of this platform', complete: 'platforms' },
    job: { kind: 'text', describe: 'The newest run of this job', complete: 'jobs' },
    ...OBSERVE_OPTIONS,
  },
  run: async (args, session) => {
    const options = readObserveOptions(args);
    const wanted = {
      ...given('platform', args.platform === undefined ? undefined : checkName('platform', args.platform)),
      ...given('job', args.job === undefined ? undefined : checkJobName(args.job)),
    };
    const begin = async () => {
      const run = await newestRun(session.client(), wanted);
      session.output.say(`run ${run.id} on ${run.platform}`);
      return run;
    };
    return observeRun(session, begin, options);
  },
});

export const commands = [observeLatest];

async function newestRun(client: Client, wanted: { platform?: string; job?: string }): Promise<Run> {
  const [run] = (await client.runs({ ...wanted, limit: 1 })).runs;
  if (run !== undefined) return run;
  const of = [wanted.job === undefined ? '' : ` of job ${wanted.job}`, wanted.platform === undefined ? '' : ` on ${wanted.platform}`];
  throw new BuilderError('not-found', `expected a run${of.join('')}, got none yet`);
}
