/** The folder of one attempt: the script's own part, fresh, with its inputs in place, and beside it what is the worker's. */
import { createWriteStream, mkdirSync, renameSync, rmSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
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
import { emptyLog, isAsGiven, isOwnAsGiven, ownTraitsOf, renewScriptsPart, rewrite, type SpareFolder, traitsOf } from './spare-folder.ts';
import { createSpareShelf } from './spare-shelf.ts';

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
  /** Ends it while inputs are on their way. */
  signal: AbortSignal;
}

export interface RunFolders {
  /**
   * Makes a folder and fills it; what was made is removed again where that fails. Throws BuilderError `not-found` for an input
   * that the store does not have, `store-full` where the disk has no room, what the store throws, and when the signal is aborted.
   */
  create(o: RunFolderOptions): Promise<RunFolder>;
  /** Whether fewer are being taken away than may be, at once or after a while: who makes more than can be taken away would fill the disk. */
  roomWithin(waitMs: number): Promise<boolean>;
  /** Resolves once none is being taken away any more. */
  settled(): Promise<void>;
}

/**
 * What of a folder may serve again. The script's own part not where the sandbox keeps runs apart: a process may hand an open folder or file
 * to that of another run, which would then reach the next run's. For the same reason nothing where scripts reach the worker's part too.
 */
export type Again = 'all' | 'own' | 'nothing';

export function createRunFolders(workDir: string, again: Again): RunFolders {
  const runs = join(workDir, 'runs');
  const going = new Set<Promise<void>>();
  const follow = (work: Promise<void>): Promise<void> => {
    const gone = work.catch(() => undefined).finally(() => going.delete(gone));
    going.add(gone);
    return work;
  };
  const remove = (path: string): void => void follow(removeTree(path)).catch(() => undefined);
  const shelf = createSpareShelf({ path: join(workDir, 'spare'), rest: again === 'all', remove });
  const place = async (made: SpareFolder, root: string, o: RunFolderOptions): Promise<void> => {
    try {
      fill(made.path, o);
      renameSync(made.path, root);
    } catch (cause) {
      await removeTree(made.path).catch(() => undefined);
      throw cause;
    }
  };
  const placeAny = async (root: string, o: RunFolderOptions): Promise<SpareFolder> => {
    for (let known = shelf.take(); known !== null; known = shelf.take()) {
      const made = known;
      // Somebody spoilt it while it lay about: no fault of this run.
      const placed = await place(made, root, o).then(
        () => true,
        () => false,
      );
      if (placed) return made;
    }
    const made = shelf.make();
    await place(made, root, o);
    return made;
  };
  const layAside = (made: SpareFolder, root: string): boolean => {
    try {
      renameSync(root, made.path);
    } catch {
      return false;
    }
    shelf.add(made);
    return true;
  };
  /** Null where it cannot serve again. */
  const renewed = async ({ made, root, given, usedAtMs }: Used): Promise<SpareFolder | null> => {
    if (again === 'all') return isAsGiven(made, root, given, usedAtMs) && emptyLog(root) ? made : null;
    if (!isOwnAsGiven(root, given) || !emptyLog(root)) return null;
    const fresh = await renewScriptsPart(root).catch(() => null);
    return fresh === null ? null : { ...fresh, path: made.path };
  };
  const retireOne = async (used: Used, endedAlone: boolean): Promise<void> => {
    const { root } = used;
    const mayStay = again !== 'nothing' && !shelf.isFull();
    const ready = mayStay && endedAlone ? await renewed(used) : null;
    if (ready !== null && layAside(ready, root)) return;
    await removeTree(root);
    // In its place, while nobody waits for it; where that fails, the next attempt makes its own and tells why not.
    try {
      if (mayStay) shelf.add(shelf.make());
    } catch {}
  };
  return {
    create: async (o) => {
      const root = join(runs, `${o.run}-${o.attempt}-${o.claim}`);
      const paths = pathsIn(root);
      const usedAtMs = performance.now();
      try {
        mkdirSync(runs, { recursive: true, mode: 0o700 });
        const made = await placeAny(root, o);
        if (o.inputs.length > 0) await placeInputs(paths.home, o);
        const used = { made, root, given: again === 'all' ? traitsOf(root) : ownTraitsOf(root), usedAtMs };
        return { root, ...paths, retire: (endedAlone) => follow(retireOne(used, endedAlone)) };
      } catch (cause) {
        await removeTree(root).catch(() => undefined);
        throw diskFault(cause, `prepare the folder of the run ${root}`);
      }
    },
    roomWithin: async (waitMs) => {
      const untilMs = performance.now() + waitMs;
      for (;;) {
        if (going.size < limits.foldersGoingMax) return true;
        const leftMs = untilMs - performance.now();
        if (leftMs <= 0) return false;
        await Promise.race([...going, delay(leftMs, undefined, { ref: false })]);
      }
    },
    settled: async () => {
      while (going.size > 0) await Promise.all(going);
    },
  };
}

interface Used {
  made: SpareFolder;
  root: string;
  /** Its traits before the script started. */
  given: string;
  usedAtMs: number;
}

/** Before it has the attempt's name: whoever finds that finds a note of this attempt, and a log of no other. */
function fill(path: string, { script, note, inputs }: RunFolderOptions): void {
  const { scriptPath, notePath, spoolPath } = pathsIn(path);
  // Until all inputs are there the script has not started, and the log's file tells so.
  if (inputs.length > 0) rmSync(spoolPath, { force: true });
  rewrite(scriptPath, script, 0o755);
  writeAttemptNote(notePath, note);
}

async function placeInputs(home: string, { inputs, store, signal }: RunFolderOptions): Promise<void> {
  const folders = new Set(inputs.map(({ path }) => dirname(checkRelativePath(path))));
  for (const folder of folders) await mkdir(join(home, folder), { recursive: true });
  await eachAtOnce(inputs, limits.filesAtOnce, (input) => placeInput(home, input, store, signal));
}

/** The content is checked while it is written: damage in the store never reaches a script. */
async function placeInput(home: string, input: InputFile, store: Store, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const bytes = await store.statBlob(input.sha256);
  if (bytes === null) throw new BuilderError('not-found', `expected the input ${input.path} in the store, got nothing for ${input.sha256}`);
  const path = join(home, checkRelativePath(input.path));
  const stream = await store.getBlob(input.sha256);
  try {
    signal.throwIfAborted();
    // Given the signal as well: Node 24 waits for the source of a pipeline that is given up.
    const content = checkedContent({ sha256: input.sha256, bytes, open: () => stream }, signal);
    await pipeline(Readable.from(content), createWriteStream(path, { flags: 'wx', mode: 0o600 }), { signal });
  } finally {
    // Where nobody has begun to read it, nobody else would end it, or hear what goes wrong with it.
    stream.on('error', () => undefined).destroy();
  }
  await chmod(path, input.mode);
}
