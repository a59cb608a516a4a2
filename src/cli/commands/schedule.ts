/** `schedule`: adds a job, or changes it. */
import { PutJob } from '../../job/api.ts';
import { BuilderError } from '../../service/errors.ts';
import { defineCommand } from '../command.ts';
import { checkBody, checkJobName, given, JOB_OPTIONS, readJobOptions, readPairs, sendInputs } from '../job-options.ts';
import { describeDue, readSchedule, readTickOptions, SCHEDULE_OPTIONS, TICK_OPTIONS } from '../schedule-options.ts';
import { readScript } from '../script.ts';
import { sayUnserved } from '../unserved.ts';

const schedule = defineCommand({
  name: 'schedule',
  describe: 'Add a job of a script, or with --template of a template; a used NAME is an error unless --replace is given',
  positionals: {
    name: { describe: 'Name of the job', complete: 'jobs' },
    platform: { describe: 'Platform to run on; not with --template', optional: true, complete: 'platforms' },
    script: { describe: 'File, or - for standard input; not with --template', optional: true, complete: 'files' },
  },
  options: {
    ...SCHEDULE_OPTIONS,
    ...TICK_OPTIONS,
    replace: { kind: 'flag', describe: 'Change the job if there is one of this name' },
    template: { kind: 'text', describe: "Make the script from a template, on all of the template's platforms", complete: 'templates' },
    param: { kind: 'list', describe: "K=V: value of the template's %%K%%" },
    ...JOB_OPTIONS,
  },
  run: async (args, session) => {
    const client = session.client();
    const name = checkJobName(args.name);
    const source = await sourceOf(args, session.io);
    const body = checkBody(PutJob, { ...source, ...readSchedule(args), ...readTickOptions(args), ...readJobOptions(args) });
    body.inputs = await sendInputs(args.input, session, client);
    const job = await client.putJob(name, body, !args.replace);
    await session.output.show(job, describeDue('scheduled', job));
    await sayUnserved(session, job.platforms);
    return 0;
  },
});

export const commands = [schedule];

interface SourceArgs {
  platform: string | undefined;
  script: string | undefined;
  template: string | undefined;
  param: string[];
}

async function sourceOf(args: SourceArgs, io: Parameters<typeof readScript>[1]): Promise<Partial<PutJob>> {
  const { platform, script, template, param } = args;
  if (template !== undefined) {
    if (platform !== undefined) throw new BuilderError('usage', 'expected PLATFORM SCRIPT or --template, got both');
    return { template, ...given('params', readPairs('param', param)) };
  }
  if (param.length > 0) throw new BuilderError('usage', 'expected --param together with --template, got it alone');
  if (platform === undefined || script === undefined) {
    throw new BuilderError('usage', 'expected schedule NAME PLATFORM SCRIPT, or schedule NAME --template T');
  }
  return { platform, script: await readScript(script, io) };
}
