/** `--input PATH[=DEST]`: which files a run gets, and where in its folder they lie. */
import type { Dirent, Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join, posix, resolve } from 'node:path';
import { limits } from '../job/limits.ts';
import { checkRelativePath, SCRIPT_NAME } from '../job/names.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { visible } from './output.ts';

export interface LocalInput {
  /** On this machine. */
  source: string;
  /** Below the run's folder. */
  path: string;
  bytes: number;
  mode: number;
}

export interface CollectOptions {
  cwd: string;
  /** Told of what is left out. */
  warn: (message: string) => void;
}

const PERMISSIONS = 0o777;

/** Every file of the named ones and of the named folders, in a stable order. Throws `no-input`, or `usage` where two meet at one place. */
export async function collectInputs(specs: string[], options: CollectOptions): Promise<LocalInput[]> {
  const inputs: LocalInput[] = [];
  for (const spec of specs) {
    for await (const input of inputsOf(spec, options)) {
      inputs.push(input);
      if (inputs.length > limits.inputsPerRunMax)
        throw new BuilderError('too-large', `expected at most ${limits.inputsPerRunMax} input files, got more`);
    }
  }
  checkPlaces(inputs);
  return inputs;
}

/** PATH and DEST, parted at the last `=`; without one DEST is null. */
export function splitSpec(spec: string): { path: string; dest: string | null } {
  const at = spec.lastIndexOf('=');
  const path = at < 0 ? spec : spec.slice(0, at);
  if (path === '') throw new BuilderError('usage', `expected --input PATH or PATH=DEST, got ${JSON.stringify(spec)}`);
  return { path, dest: at < 0 ? null : spec.slice(at + 1) };
}

async function* inputsOf(spec: string, options: CollectOptions): AsyncGenerator<LocalInput> {
  const { path, dest } = splitSpec(spec);
  const source = resolve(options.cwd, path);
  const found = await statOf(source, path);
  if (found.isFile()) {
    const into = dest === null || dest === '' || dest === '.' || dest.endsWith('/');
    yield fileInput(source, into ? posix.join(dest ?? '', basename(source)) : dest, found);
  } else if (found.isDirectory()) {
    yield* folderInputs({ folder: source, dest: dest ?? basename(source) }, options);
  } else {
    throw new BuilderError('no-input', `expected a file or a folder as input, got ${visible(path)}, which is neither`);
  }
}

interface Place {
  folder: string;
  dest: string;
}

async function* folderInputs(place: Place, options: CollectOptions): AsyncGenerator<LocalInput> {
  for (const entry of await entriesOf(place.folder, options)) {
    const source = join(place.folder, entry.name);
    const path = posix.join(place.dest, entry.name);
    if (entry.isDirectory()) {
      yield* folderInputs({ folder: source, dest: path }, options);
    } else if (entry.isFile()) {
      yield fileInput(source, path, await statOf(source, source));
    } else {
      // A link may lead anywhere, and one that leads nowhere must not stop the others.
      options.warn(`input left out: ${visible(source)} is ${entry.isSymbolicLink() ? 'a symbolic link' : 'neither a file nor a folder'}`);
    }
  }
}

/** Sorted, without names that are not UTF-8: no request could name them. */
async function entriesOf(folder: string, { warn }: CollectOptions): Promise<Dirent[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw new BuilderError('no-input', `expected a readable folder, got ${visible(folder)} (${oneLine(cause)})`, { cause });
  });
  const [named, nameless] = [entries.filter(({ name }) => !name.includes('\ufffd')), entries.filter(({ name }) => name.includes('\ufffd'))];
  for (const { name } of nameless) warn(`input left out: ${visible(join(folder, name))} has a name that is not UTF-8`);
  return named.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function fileInput(source: string, dest: string, found: Stats): LocalInput {
  if (found.size > limits.inputBytesMax)
    throw new BuilderError('too-large', `expected inputs of at most ${limits.inputBytesMax} bytes, got ${visible(source)}`);
  return { source, path: checkDest(dest), bytes: found.size, mode: found.mode & PERMISSIONS };
}

function checkDest(dest: string): string {
  try {
    return checkRelativePath(dest);
  } catch (cause) {
    throw new BuilderError('usage', `--input: ${oneLine(cause)}`, { cause });
  }
}

async function statOf(source: string, shown: string): Promise<Stats> {
  try {
    return await stat(source);
  } catch (cause) {
    throw new BuilderError('no-input', `expected a file or a folder as input, got ${visible(shown)} (${oneLine(cause)})`, { cause });
  }
}

/** No two at one place, none where the script lies, none below another that is a file. */
function checkPlaces(inputs: LocalInput[]): void {
  const places = new Map<string, LocalInput>();
  for (const input of inputs) {
    const other = places.get(input.path);
    if (other !== undefined) throw clash(input.path, `${other.source} and ${input.source}`);
    if (input.path === SCRIPT_NAME) throw clash(input.path, `the script and ${input.source}`);
    places.set(input.path, input);
  }
  for (const input of inputs) {
    for (let folder = posix.dirname(input.path); folder !== '.'; folder = posix.dirname(folder)) {
      const file = places.get(folder) ?? (folder === SCRIPT_NAME ? { source: 'the script' } : undefined);
      if (file !== undefined) throw clash(folder, `${file.source} and the folder of ${input.source}`);
    }
  }
}

function clash(path: string, what: string): BuilderError {
  return new BuilderError('usage', `expected one input at ${visible(path)}, got two: ${visible(what)}`);
}
