/** What a script left becomes artifacts: one pass hashes, and only content that the store does not know is sent. */
import { constants, createReadStream, lstatSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import picomatch from 'picomatch';
import { type BlobBatch, ContentMismatch, type Store, type StoredFile } from '../src/artifacts/store.ts';
import type { Artifact, InputFile } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import { SCRIPT_NAME } from '../src/job/names.ts';
import { eachAtOnce } from '../src/service/each.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { type BoundedNotes, createBoundedNotes } from './bounded-notes.ts';
import { onceFilesOpen } from './descriptors.ts';
import { type ReadFile, readLeftFile } from './file-reading.ts';
import { holdsOnly } from './folder-names.ts';
import { type Found, walkFolder } from './folder-walk.ts';

export interface CollectOptions {
  folder: string;
  /** Of the script as it was put there: left as it was it is no artifact. */
  scriptSha256: string;
  /** Empty: every file. */
  globs: string[];
  inputs: InputFile[];
  store: Store;
  /** Takes a line for the log. */
  note: (text: string) => Promise<void>;
  signal: AbortSignal;
}

const SEND_BYTES = 1024 * 1024;

/**
 * Resolves with the artifacts in the order of their paths once every byte of them is in the store. What cannot be an artifact is
 * skipped with a line in the log. No process of the script may be alive. Throws what the store throws, and `store-unavailable` where
 * no more files can be opened.
 */
export async function collectArtifacts(o: CollectOptions): Promise<Artifact[]> {
  if (o.globs.length === 0 && o.inputs.length === 0 && (await holdsScriptAlone(o))) return [];
  const notes = createBoundedNotes();
  const artifacts: Artifact[] = [];
  const inputs = indexInputs(o.inputs);
  const batch = o.store.openBatch();
  let turnedAtMs = performance.now();
  const left: string[] = [];
  for (const [path, found] of await storeTogether(o, chooseFiles(o, notes), batch)) {
    if (found === null) left.push(path);
    else artifacts.push(artifactOf(path, found, inputs));
  }
  await eachAtOnce(left, limits.filesAtOnce, async (path) => {
    // Small files are read at once, and those that need not be sent wait for nothing.
    if (performance.now() - turnedAtMs > limits.collectTurnMs) {
      await nextTurn();
      turnedAtMs = performance.now();
    }
    const artifact = await collectFile(o, { path, inputs, notes, batch });
    if (artifact !== null) artifacts.push(artifact);
  });
  await onceFilesOpen(() => batch.settle(), o.signal);
  artifacts.sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const artifact of artifacts) noteOverlap(artifact, notes);
  for (const line of notes.lines()) await o.note(line);
  return artifacts;
}

/** Of most runs nothing is left, and nobody should wait for a walk through nothing: at once, as readLeftFile. */
async function holdsScriptAlone({ folder, scriptSha256, signal }: CollectOptions): Promise<boolean> {
  try {
    if (!lstatSync(folder).isDirectory() || !holdsOnly(folder, [SCRIPT_NAME])) return false;
    return (await readLeftFile(join(folder, SCRIPT_NAME), signal)).sha256 === scriptSha256;
  } catch {
    return false;
  }
}

/** In groups of `limits.threadFilesMin`, each as soon as it is whole; the last one may be smaller. */
async function* chooseFiles(o: CollectOptions, notes: BoundedNotes): AsyncGenerator<string[], void> {
  const globs = o.globs.map((glob) => ({ glob, matches: picomatch(glob, { dot: true }), used: false }));
  let chosen = 0;
  let group: string[] = [];
  // A script without a sandbox may have put a link in the place of its folder.
  if (!(await isFolder(o.folder))) {
    notes.add('a folder that is gone', 'the folder of the run is gone, or is no folder any more: no file of it is stored');
    return;
  }
  for await (const folder of walkFolder(o.folder, o.signal)) {
    for (const found of folder) {
      if (!isChosen(found, globs, notes)) continue;
      chosen += 1;
      if (chosen > limits.artifactsPerRunMax) {
        const skipped = `skipped ${found.path}: a run has at most ${limits.artifactsPerRunMax} artifacts`;
        notes.add(`skipped files beyond ${limits.artifactsPerRunMax}`, skipped);
        continue;
      }
      group.push(found.path);
      if (group.length < limits.threadFilesMin) continue;
      yield group;
      o.signal.throwIfAborted();
      group = [];
    }
    o.signal.throwIfAborted();
  }
  if (group.length > 0) yield group;
  for (const { glob, used } of globs) if (!used) notes.add('patterns that match nothing', `no file matches --artifact ${glob}`);
}

interface Glob {
  glob: string;
  matches: (path: string) => boolean;
  used: boolean;
}

function isChosen(found: Found, globs: Glob[], notes: BoundedNotes): boolean {
  if (found.kind === 'other') {
    notes.add(`skipped ${found.what}`, `skipped ${found.path}: ${found.what} are not stored`);
    return false;
  }
  if (globs.length === 0) return true;
  const matching = globs.filter(({ matches }) => matches(found.path));
  for (const one of matching) one.used = true;
  return matching.length > 0;
}

function isFolder(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Each file with what it is where it was one of many, small and as usual; null for the others. The first are stored while the next are looked for. */
async function storeTogether(
  o: CollectOptions,
  chosen: AsyncGenerator<string[], void>,
  { putFiles }: BlobBatch,
): Promise<[path: string, found: StoredFile | null][]> {
  let areMany = false;
  const answers = await eachAtOnce(chosen, limits.filesAtOnce, async (group) => {
    // The first group is begun first; where it is not whole there is no other.
    areMany ||= group.length === limits.threadFilesMin;
    // The script as it was put there is no artifact.
    const paths = areMany ? group.filter((path) => path !== SCRIPT_NAME) : [];
    const inFolder = paths.map((path) => join(o.folder, path));
    const put = paths.length === 0 ? [] : ((await putFiles?.(inFolder, o.signal)) ?? []);
    const found = new Map(paths.map((path, index) => [path, put[index]]));
    return group.map((path): [string, StoredFile | null] => [path, found.get(path) ?? null]);
  });
  return answers.flat();
}

interface FileOptions {
  path: string;
  inputs: ReturnType<typeof indexInputs>;
  notes: BoundedNotes;
  batch: BlobBatch;
}

async function collectFile(o: CollectOptions, { path, inputs, notes, batch }: FileOptions): Promise<Artifact | null> {
  const file = join(o.folder, path);
  for (let last = false; ; last = true) {
    // The store has the inputs; one that has changed on the way is only looked at, then sent.
    const put = last || inputs.byPath.has(path) ? undefined : batch.putFile;
    const found = await onceFilesOpen(() => readLeftFile(file, o.signal, put), o.signal).catch((cause: unknown) => {
      o.signal.throwIfAborted();
      if (cause instanceof BuilderError) throw cause;
      if (cause instanceof ContentMismatch) return 'changed' as const;
      notes.add('skipped unreadable files', `skipped ${path}: ${oneLine(cause)}`);
      return null;
    });
    if (found === 'changed') continue;
    if (found === null || (path === SCRIPT_NAME && found.sha256 === o.scriptSha256)) return null;
    const artifact = artifactOf(path, found, inputs);
    // The blob of an input is in the store already: the run has been started from it.
    if (artifact.input === 'unchanged' || artifact.sameAs !== null || (await send(o, file, found, { path, notes, last, batch }))) {
      return artifact;
    }
    if (last) return null;
  }
}

function artifactOf(path: string, { bytes, mode, sha256 }: StoredFile, inputs: FileOptions['inputs']): Artifact {
  const input = inputs.byPath.get(path);
  const unchanged = input?.sha256 === sha256;
  const sameAs = unchanged ? null : (inputs.bySha256.get(sha256) ?? null);
  return { path, bytes, mode, sha256, input: input === undefined ? null : unchanged ? 'unchanged' : 'changed', sameAs };
}

/** False where the file has changed since it was hashed, or cannot be read any more. */
async function send(
  o: CollectOptions,
  file: string,
  { sha256, bytes, content, stored }: ReadFile,
  { path, notes, last, batch }: Omit<FileOptions, 'inputs'> & { last: boolean },
): Promise<boolean> {
  if (stored) return true;
  try {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW;
    const openFile = () => createReadStream(file, { flags: flags as unknown as string, highWaterMark: SEND_BYTES });
    const blob = { sha256, bytes, open: openFile, path: file, ...(content === null ? {} : { content }) };
    await onceFilesOpen(() => batch.putBlob(blob, o.signal), o.signal);
    return true;
  } catch (cause) {
    if (cause instanceof BuilderError || o.signal.aborted) throw cause;
    const reason = cause instanceof ContentMismatch ? 'it changed while it was stored' : oneLine(cause);
    if (last) notes.add('skipped changing files', `skipped ${path}: ${reason}`);
    return false;
  }
}

function indexInputs(inputs: InputFile[]): { byPath: Map<string, InputFile>; bySha256: Map<string, string> } {
  const bySha256 = new Map<string, string>();
  for (const { sha256, path } of inputs) if (!bySha256.has(sha256)) bySha256.set(sha256, path);
  return { byPath: new Map(inputs.map((input) => [input.path, input])), bySha256 };
}

function noteOverlap({ path, input, sameAs }: Artifact, notes: BoundedNotes): void {
  if (input === 'unchanged') notes.add('inputs left unchanged', `input ${path} was left unchanged`);
  if (input === 'changed') notes.add('inputs changed', `input ${path} was changed; the artifact of that name is another file`);
  if (sameAs !== null) notes.add('artifacts equal to an input', `artifact ${path} has the content of the input ${sameAs}`);
}
