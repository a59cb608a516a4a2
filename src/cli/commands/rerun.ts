/** `rerun`: submits what a run was made of again, as a new run. */
import { defineCommand } from '../command.ts';

const rerun = defineCommand({
  name: 'rerun',
  describe: 'Submit the same script, inputs and options again as a new run, and print its id',
  positionals: { run: { describe: 'Id of the run, or its first 8 characters', complete: 'runs' } },
  options: {},
  run: async (args, { client, output }) => {
    const run = await client().rerun(args.run);
    await output.show(run, `${run.id}\n`);
    return 0;
  },
});

export const commands = [rerun];
