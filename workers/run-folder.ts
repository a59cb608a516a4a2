/** The folder of one attempt: the script's own part, fresh, with its inputs in place, and beside it what is the worker's. */
import { createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, rmdir, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { checkedContent } from '../src/artifacts/checked-content.ts';
import type { Store } from '../src/artifacts/store.ts';
import type { InputFile } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import { checkRelativePath, SCRIPT_NAME } from '../src/job/names.ts';
import { eachAtOnce } from '../src/service/each.ts';
import { BuilderError } from '../src/service/errors.ts';
import { diskFault } from './disk-fault.ts';
import { removeTree } from './remove-tree.ts';

export interface RunFolder {
  root: string;
  /** The script's working directory and HOME. */
  home: string;
  tmp: string;
  scriptPath: string;
  /** Outside of what the script is given. */
  spoolPath: string;
  /** What it is an attempt of. */
  notePath: string;
  /** Which control groups were made for it. */
  cgroupsPath: string;
  remove(): Promise<void>;
}

export interface RunFolderOptions {
  workDir: string;
  run: string;
  attempt: number;
  claim: string;
  script: Buffer;
  inputs: InputFile[];
  store: Store;
}

/**
 * Makes the folder and fills it; what was made is removed again where that fails. Throws BuilderError `not-found` for an input
 * that the store does not have, `store-full` where the disk has no room, and what the store throws.
 */
export async function createRunFolder(o: RunFolderOptions): Promise<RunFolder> {
  const root = join(o.workDir, 'runs', `${o.run}-${o.attempt}-${o.claim}`);
  const { home } = pathsIn(root);
  const folder: RunFolder = {
    root,
    scriptPath: join(home, SCRIPT_NAME),
    ...pathsIn(root),
    remove: async () => {
      // Whatever else lies there, or where something else is in their place.
      await removeUsual(folder).catch(() => removeTree(root));
    },
  };
  try {
    await mkdir(home, { recursive: true, mode: 0o700 });
    await mkdir(folder.tmp, { mode: 0o700 });
    await placeInputs(home, o);
    await writeFile(folder.scriptPath, o.script, { mode: 0o755, flag: 'wx' });
  } catch (cause) {
    await folder.remove().catch(() => undefined);
    throw diskFault(cause, `prepare the folder of the run ${root}`);
  }
  return folder;
}

/** By its names what is there where a script has left nothing, so that nothing is looked for. Throws where there is more. */
async function removeUsual({ root, home, tmp, scriptPath, spoolPath, notePath }: RunFolder): Promise<void> {
  // A script without a sandbox may have put a link in the place of its folder.
  if (!(await lstat(home)).isDirectory()) throw new Error('no folder');
  const gone = await Promise.allSettled([unlink(scriptPath).then(() => rmdir(home)), rmdir(tmp), unlink(spoolPath), unlink(notePath)]);
  for (const one of gone) if (one.status === 'rejected') throw one.reason;
  await rmdir(root);
}

export function pathsIn(root: string): Pick<RunFolder, 'home' | 'tmp' | 'spoolPath' | 'notePath' | 'cgroupsPath'> {
  return {
    home: join(root, 'home'),
    tmp: join(root, 'tmp'),
    spoolPath: join(root, 'log.ndjson'),
    notePath: join(root, 'attempt.json'),
    cgroupsPath: join(root, 'cgroups.json'),
  };
}

async function placeInputs(home: string, { inputs, store }: RunFolderOptions): Promise<void> {
  const folders = new Set(inputs.map(({ path }) => dirname(checkRelativePath(path))));
  for (const folder of folders) await mkdir(join(home, folder), { recursive: true });
  await eachAtOnce(inputs, limits.filesAtOnce, (input) => placeInput(home, input, store));
}

/** The content is checked while it is written: damage in the store never reaches a script. */
async function placeInput(home: string, input: InputFile, store: Store): Promise<void> {
  const bytes = await store.statBlob(input.sha256);
  if (bytes === null) throw new BuilderError('not-found', `expected the input ${input.path} in the store, got nothing for ${input.sha256}`);
  const stream = await store.getBlob(input.sha256);
  const content = checkedContent({ sha256: input.sha256, bytes, open: () => stream });
  const path = join(home, checkRelativePath(input.path));
  await pipeline(Readable.from(content), createWriteStream(path, { flags: 'wx', mode: 0o600 }));
  await chmod(path, input.mode);
}
