/** `drop-platform`: a platform takes no more runs. */
import { checkName } from '../../job/names.ts';
import { defineCommand } from '../command.ts';

const dropPlatform = defineCommand({
  name: 'drop-platform',
  describe: 'Take no more runs of a platform: new ones are refused, what waits is cancelled, what runs goes on',
  positionals: { platform: { describe: 'Name of the platform', complete: 'platforms' } },
  options: {},
  run: async (args, { client, output }) => {
    const platform = checkName('platform', args.platform);
    await client().setDropped(platform, true);
    await output.show({ platform, dropped: true }, `dropped ${platform}\n`);
    return 0;
  },
});

export const commands = [dropPlatform];
