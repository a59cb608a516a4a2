/** What lies in a folder: regular files by their path, and all else by what it is. Links are never followed. */
import { isUtf8 } from 'node:buffer';
import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { onceFilesOpen } from './descriptors.ts';

export type Found = FoundFile | FoundOther;
export type FoundFile = { kind: 'file'; path: string };
/** `what` is said of more than one: «symbolic links». */
export type FoundOther = { kind: 'other'; what: string; path: string };

/** What Node has in the place of bytes that are no text. */
const REPLACEMENT = '\uFFFD';

const OTHERS: [keyof Dirent & `is${string}`, string][] = [
  ['isSymbolicLink', 'symbolic links'],
  ['isFIFO', 'fifos'],
  ['isSocket', 'sockets'],
  ['isBlockDevice', 'devices'],
  ['isCharacterDevice', 'devices'],
];

/**
 * Of each folder what it holds, in ascending order of names, so that two equal folders give one list. One folder in one piece: a step of an
 * asynchronous generator for each file takes longer than all that is done for it here. Throws the signal's reason, and `store-unavailable`
 * where no more files can be opened.
 */
export async function* walkFolder(root: string, signal: AbortSignal): AsyncGenerator<Found[], void> {
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const at = folder === '' ? root : `${root}/${folder}`;
    const entries = await onceFilesOpen(() => readEntries(at), signal).catch((cause: unknown) => {
      signal.throwIfAborted();
      if (cause instanceof BuilderError) throw cause;
      return oneLine(cause);
    });
    if (typeof entries === 'string') {
      yield [{ kind: 'other', what: 'folders that cannot be read', path: `${folder} (${entries})` }];
      continue;
    }
    const inside: string[] = [];
    const found: Found[] = [];
    for (const entry of entries) {
      const name = nameOf(entry);
      const path = folder === '' ? name : `${folder}/${name}`;
      if (Buffer.isBuffer(entry.name) && !isUtf8(entry.name)) found.push({ kind: 'other', what: 'names that are not UTF-8', path });
      else if (entry.isDirectory()) inside.push(path);
      else if (entry.isFile()) found.push({ kind: 'file', path });
      else found.push({ kind: 'other', what: OTHERS.find(([is]) => entry[is]())?.[1] ?? 'unknown things', path });
    }
    folders.push(...inside.reverse());
    yield found;
  }
}

type Entry = Dirent | Dirent<Buffer>;

/** In order. Names as text, for half of the time that they take as bytes; as bytes where one of them is no UTF-8, or Node could not ask what it is of. */
async function readEntries(path: string): Promise<Entry[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => null);
  if (entries?.every(({ name }) => !name.includes(REPLACEMENT)) === true) return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  const exact = await readdir(path, { withFileTypes: true, encoding: 'buffer' });
  return exact.sort((a, b) => Buffer.compare(a.name, b.name));
}

function nameOf({ name }: Entry): string {
  return typeof name === 'string' ? name : name.toString();
}
