/** The folder of one attempt: the script's own part, fresh, with its inputs in place, and beside it what is the worker's. */
import { createWriteStream, mkdirSync, renameSync, rmSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { checkedContent } from '../src/artifacts/checked-content.ts';
import type { Store } from '../src/artifacts/store.ts';
import type { InputFile } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import { checkRelativePath } from '../src/job/names.ts';
import { eachAtOnce } from '../src/service/each.ts';
import { BuilderError } from '../src/service/errors.ts';
import { type AttemptNote, writeAttemptNote } from './attempt-note.ts';
import { diskFault } from './disk-fault.ts';
import { removeTree } from './remove-tree.ts';
import { pathsIn, type RunPaths } from './run-paths.ts';
import { isAsMade, makeSpareFolder, rewrite, type SpareFolder } from './spare-folder.ts';

export interface RunFolder extends RunPaths {
  root: string;
  /** Takes it away. `endedAlone`: no process of the run can still reach it; then it may serve another attempt, if it is as new. */
  retire(endedAlone: boolean): Promise<void>;
}

export interface RunFolderOptions {
  run: string;
  attempt: number;
  claim: string;
  note: AttemptNote;
  script: Buffer;
  inputs: InputFile[];
  store: Store;
}

export interface RunFolders {
  /**
   * Makes a folder and fills it; what was made is removed again where that fails. Throws BuilderError `not-found` for an input
   * that the store does not have, `store-full` where the disk has no room, and what the store throws.
   */
  create(o: RunFolderOptions): Promise<RunFolder>;
}

export function createRunFolders(workDir: string): RunFolders {
  const [runs, spare] = [join(workDir, 'runs'), join(workDir, 'spare')];
  /** The oldest first. */
  const spares: SpareFolder[] = [];
  let count = 0;
  const makeOne = (): SpareFolder => {
    count += 1;
    return makeSpareFolder(join(spare, String(count)));
  };
  const takeOne = (): SpareFolder => {
    const nowMs = performance.now();
    for (;;) {
      const [oldest] = spares;
      // One that was just made rests, for it could not serve twice; see isAsMade.
      if (oldest === undefined || nowMs - oldest.restsSinceMs < limits.fileClockTickMs) return makeOne();
      spares.shift();
      if (nowMs - oldest.restsSinceMs < limits.spareFolderMsMax) return oldest;
      void removeTree(oldest.path).catch(() => undefined);
    }
  };
  const retire = async (made: SpareFolder, root: string, usedAtMs: number, endedAlone: boolean): Promise<void> => {
    const mayStay = spares.length < limits.spareFoldersMax;
    if (mayStay && endedAlone && isAsMade(made, root, usedAtMs)) {
      renameSync(root, made.path);
      spares.push({ ...made, restsSinceMs: performance.now() });
      return;
    }
    await removeTree(root);
    // In its place, while nobody waits for it; where that fails, the next attempt makes its own and tells why not.
    try {
      if (mayStay) spares.push(makeOne());
    } catch {}
  };
  return {
    create: async (o) => {
      const root = join(runs, `${o.run}-${o.attempt}-${o.claim}`);
      const paths = pathsIn(root);
      const usedAtMs = performance.now();
      let made: SpareFolder | null = null;
      try {
        mkdirSync(runs, { recursive: true, mode: 0o700 });
        made = takeOne();
        fill(made.path, o);
        renameSync(made.path, root);
        if (o.inputs.length > 0) await placeInputs(paths.home, o);
      } catch (cause) {
        for (const path of made === null ? [] : [made.path, root]) await removeTree(path).catch(() => undefined);
        throw diskFault(cause, `prepare the folder of the run ${root}`);
      }
      const spareOne = made;
      return { root, ...paths, retire: (endedAlone) => retire(spareOne, root, usedAtMs, endedAlone) };
    },
  };
}

/** Before it has the attempt's name: whoever finds that finds a note of this attempt, and a log of no other. */
function fill(path: string, { script, note, inputs }: RunFolderOptions): void {
  const { scriptPath, notePath, spoolPath } = pathsIn(path);
  // Until all inputs are there the script has not started, and the log's file tells so.
  if (inputs.length > 0) rmSync(spoolPath, { force: true });
  rewrite(scriptPath, script, 0o755);
  writeAttemptNote(notePath, note);
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
