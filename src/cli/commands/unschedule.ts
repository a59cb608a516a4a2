/** `unschedule`: removes a job; its runs stay. */
import { defineCommand } from '../command.ts';
import { checkJobName } from '../job-options.ts';

const unschedule = defineCommand({
  name: 'unschedule',
  describe: 'Remove a job; what it has run stays, what waits or runs goes on',
  positionals: { name: { describe: 'Name of the job', complete: 'jobs' } },
  options: {},
  run: async (args, { client, output }) => {
    const name = checkJobName(args.name);
    await client().removeJob(name);
    await output.show({ job: name, removed: true }, `unscheduled ${name}\n`);
    return 0;
  },
});

export const commands = [unschedule];
