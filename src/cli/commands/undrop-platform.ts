/** `undrop-platform`: a platform takes runs again. */
import { checkName } from '../../job/names.ts';
import { defineCommand } from '../command.ts';

const undropPlatform = defineCommand({
  name: 'undrop-platform',
  describe: 'Take runs of a platform again',
  positionals: { platform: { describe: 'Name of the platform', complete: 'platforms' } },
  options: {},
  run: async (args, { client, output }) => {
    const platform = checkName('platform', args.platform);
    await client().setDropped(platform, false);
    await output.show({ platform, dropped: false }, `undropped ${platform}\n`);
    return 0;
  },
});

export const commands = [undropPlatform];
