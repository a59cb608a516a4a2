/** `workers`: lists the workers that have been heard of lately. */
import { defineCommand } from '../command.ts';
import { workerTable } from '../listing.ts';

const workers = defineCommand({
  name: 'workers',
  describe: 'List the workers',
  positionals: {},
  options: {},
  run: async (_, { client, output }) => {
    const list = await client().workers();
    await output.show({ workers: list }, workerTable(list));
    if (list.length === 0 && !output.json) output.say('no workers');
    return 0;
  },
});

export const commands = [workers];
