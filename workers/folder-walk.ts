/** What lies in a folder: regular files by their path, and all else by what it is. Links are never followed. */
import { isUtf8 } from 'node:buffer';
import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { oneLine } from '../src/service/errors.ts';

export type FoundFile = { kind: 'file'; path: string };
/** `what` is said of more than one: «symbolic links». */
export type FoundOther = { kind: 'other'; what: string; path: string };

const OTHERS: [keyof Dirent & `is${string}`, string][] = [
  ['isSymbolicLink', 'symbolic links'],
  ['isFIFO', 'fifos'],
  ['isSocket', 'sockets'],
  ['isBlockDevice', 'devices'],
  ['isCharacterDevice', 'devices'],
];

/** Ascending order of names within each folder, so that two equal folders give one list. */
export async function* walkFolder(root: string): AsyncGenerator<FoundFile | FoundOther> {
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const entries = await readdir(folder === '' ? root : `${root}/${folder}`, { withFileTypes: true, encoding: 'buffer' }).catch(oneLine);
    if (typeof entries === 'string') {
      yield { kind: 'other', what: 'folders that cannot be read', path: `${folder} (${entries})` };
      continue;
    }
    const inside: string[] = [];
    for (const entry of entries.sort((a, b) => Buffer.compare(a.name, b.name))) {
      const path = folder === '' ? entry.name.toString() : `${folder}/${entry.name.toString()}`;
      if (!isUtf8(entry.name)) yield { kind: 'other', what: 'names that are not UTF-8', path };
      else if (entry.isDirectory()) inside.push(path);
      else if (entry.isFile()) yield { kind: 'file', path };
      else
        yield {
          kind: 'other',
          what: OTHERS.find(([is]) => (entry as unknown as Record<string, () => boolean>)[is]?.())?.[1] ?? 'unknown things',
          path,
        };
    }
    folders.push(...inside.reverse());
  }
}
