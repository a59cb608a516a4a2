/** The folder of one attempt: the script's own part, fresh, with its inputs in place, and beside it what is the worker's. */
import { createWriteStream, lstatSync, mkdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
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
      if (!removeUsual(folder)) await removeTree(root);
    },
  };
  try {
    // Synchronous: each of these costs less than its way through the thread pool.
    mkdirSync(root, { recursive: true, mode: 0o700 });
    for (const path of [home, folder.tmp]) mkdirSync(path, { mode: 0o700 });
    if (o.inputs.length > 0) await placeInputs(home, o);
    writeFileSync(folder.scriptPath, o.script, { mode: 0o755, flag: 'wx' });
  } catch (cause) {
    await folder.remove().catch(() => undefined);
    throw diskFault(cause, `prepare the folder of the run ${root}`);
  }
  return folder;
}

/**
 * By its names what is there where a script has left nothing, so that nothing is looked for; false where there is more, or a log so long that
 * removing it takes a while.
 */
function removeUsual({ root, home, tmp, scriptPath, spoolPath, notePath }: RunFolder): boolean {
  try {
    // A script without a sandbox may have put a link in the place of its folder.
    if (!lstatSync(home).isDirectory() || lstatSync(spoolPath).size > limits.logEntryBytesMax) return false;
    unlinkSync(scriptPath);
    for (const folder of [home, tmp]) rmdirSync(folder);
    for (const file of [spoolPath, notePath]) unlinkSync(file);
    rmdirSync(root);
    return true;
  } catch {
    return false;
  }
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
