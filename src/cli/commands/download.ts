/** `download`: fetches files of a run, digests checked. */
import { resolve } from 'node:path';
import type { Artifact } from '../../job/artifact.ts';
import { limits } from '../../job/limits.ts';
import { eachAtOnce } from '../../service/each.ts';
import { BuilderError } from '../../service/errors.ts';
import { chooseArtifacts } from '../choosing.ts';
import type { Client } from '../client.ts';
import { defineCommand } from '../command.ts';
import { interruptSignal } from '../io.ts';
import { ATTEMPT, attemptOf } from '../job-options.ts';
import { visible } from '../output.ts';
import { openPlacing } from '../placing.ts';

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
    const { taken, leftOut } = chooseArtifacts(await client().artifacts(args.run, attempt), args.paths);
    const folder = args.output ?? '.';
    const interrupt = interruptSignal(io);
    try {
      await fetchAll(client(), { run: args.run, attempt, artifacts: taken, folder: resolve(io.cwd, folder), signal: interrupt.signal });
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

interface Fetch {
  run: string;
  attempt: number | undefined;
  artifacts: Artifact[];
  folder: string;
  signal: AbortSignal;
}

/** The first fault ends the others too. */
async function fetchAll(client: Client, { run, attempt, artifacts, folder, signal }: Fetch): Promise<void> {
  if (artifacts.length === 0) return;
  const placing = await openPlacing(folder);
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  try {
    await eachAtOnce(artifacts, limits.filesAtOnce, async (artifact) => {
      try {
        either.throwIfAborted();
        await placing.place(artifact, client.artifact(run, artifact, { attempt, signal: either }));
      } catch (thrown) {
        failed.abort();
        throw inWords(artifact, thrown);
      }
    });
  } catch (thrown) {
    await placing.tidy();
    throw thrown;
  }
}

/** A file that is gone since it was listed is named. */
function inWords(artifact: Artifact, thrown: unknown): unknown {
  if (!(thrown instanceof BuilderError) || thrown.code !== 'not-found') return thrown;
  return new BuilderError('not-found', `expected ${visible(artifact.path)} at the server, got: ${thrown.message}`, { cause: thrown });
}
