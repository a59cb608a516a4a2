/** `artifacts`: lists the files of a run. */
import { defineCommand } from '../command.ts';
import { ATTEMPT, attemptOf } from '../job-options.ts';
import { artifactTable } from '../listing.ts';

const artifacts = defineCommand({
  name: 'artifacts',
  describe: 'List the files of a run, and which of them are inputs',
  positionals: { run: { describe: 'Id of the run, or its first 8 characters', complete: 'runs' } },
  options: ATTEMPT,
  run: async (args, { client, output }) => {
    const list = await client().artifacts(args.run, attemptOf(args));
    await output.show({ artifacts: list }, artifactTable(list));
    if (list.length === 0 && !output.json) output.say('no artifacts');
    return 0;
  },
});

export const commands = [artifacts];
