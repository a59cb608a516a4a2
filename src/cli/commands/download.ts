/** `download`: fetches files of a run, digests checked. */
import { resolve } from 'node:path';
import { chooseArtifacts } from '../choosing.ts';
import { defineCommand } from '../command.ts';
import { fetchAll } from '../fetching.ts';
import { interruptSignal } from '../io.ts';
import { ATTEMPT, attemptOf } from '../job-options.ts';
import { visible } from '../output.ts';

/** As a shell has it for a program ended by Ctrl-C. */
const INTERRUPTED_EXIT = 130;

const download = defineCommand({
  name: 'download',
  describe: 'Fetch files of a run and check their digests; without PATH all but unchanged inputs',
  positionals: {
    run: { describe: 'Id of the run, or its first 8 characters', complete: 'runs' },
    paths: { describe: 'Files of the run, or folders with all below them', optional: true, many: true },
  },
  options: {
    output: { kind: 'text', alias: 'o', describe: 'Folder to write to (default: the current one)', complete: 'files' },
    ...ATTEMPT,
  },
  run: async (args, { client, io, output }) => {
    const attempt = attemptOf(args);
    const listed = await client().artifacts(args.run, attempt);
    const { taken, leftOut } = chooseArtifacts(listed, args.paths);
    const folder = args.output ?? '.';
    const interrupt = interruptSignal(io);
    try {
      const { signal } = interrupt;
      await fetchAll(client(), { run: args.run, attempt, listed, artifacts: taken, folder: resolve(io.cwd, folder), signal });
    } catch (thrown) {
      if (!interrupt.signal.aborted) throw thrown;
      output.say('interrupted; unfinished files were removed');
      return INTERRUPTED_EXIT;
    } finally {
      interrupt.dispose();
    }
    await output.show({ folder, files: taken, leftOut }, taken.map(({ path }) => `${visible(path)}\n`).join(''));
    if (output.json) return 0;
    if (taken.length === 0) output.say('nothing to download');
    if (leftOut > 0) output.say(`left out ${leftOut} unchanged ${leftOut === 1 ? 'input' : 'inputs'}; name a path, or . for all`);
    return 0;
  },
});

export const commands = [download];
