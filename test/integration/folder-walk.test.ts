/** The walk through what a run left: names as they are, in one order, whatever else lies beside them. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { type Found, walkFolder } from '../../workers/folder-walk.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

const NAMES = ['plain', 'ünïcode', '日本', '\u{1f600}', 'the mark \ufffd itself'];

let temp: TempFolder;
beforeEach(() => {
  temp = tempFolder();
});
afterEach(() => temp.remove());

async function walk(): Promise<Found[]> {
  const all: Found[] = [];
  for await (const found of walkFolder(temp.path, new AbortController().signal)) all.push(...found);
  return all;
}

function leave(folder: string): void {
  mkdirSync(`${temp.path}/${folder}`, { recursive: true });
  for (const name of NAMES) writeFileSync(`${temp.path}/${folder}/${name}`, '');
}

function filesOf(found: Found[]): string[] {
  return found.filter(({ kind }) => kind === 'file').map(({ path }) => path);
}

describe('a walk', () => {
  it('tells of every name as it is, folder by folder', async () => {
    for (const folder of ['b', 'a/deep ü', 'a']) leave(folder);
    writeFileSync(`${temp.path}/last`, '');
    const found = filesOf(await walk());
    expect(found[0]).toBe('last');
    expect(found.slice(1).map((path) => path.slice(0, path.lastIndexOf('/')))).toEqual(
      ['a', 'a/deep ü', 'b'].flatMap((folder) => NAMES.map(() => folder)),
    );
    expect(found.slice(1).sort()).toEqual(['a', 'a/deep ü', 'b'].flatMap((folder) => NAMES.map((name) => `${folder}/${name}`)).sort());
    expect(filesOf(await walk())).toEqual(found);
  });

  it('tells of them beside names that are no text, which it does not enter', async () => {
    leave('a');
    const bytes = '"$ARGV[0]/a/\\xff\\xfe"';
    spawnSync('perl', ['-e', `open F, ">", ${bytes}; mkdir "$ARGV[0]/a/\\xe9"; open F, ">", "$ARGV[0]/a/\\xe9/inside"`, temp.path]);
    const found = await walk();
    expect(filesOf(found).sort()).toEqual(NAMES.map((name) => `a/${name}`).sort());
    expect(found.filter(({ kind }) => kind === 'other')).toEqual([
      { kind: 'other', what: 'names that are not UTF-8', path: 'a/\ufffd' },
      { kind: 'other', what: 'names that are not UTF-8', path: 'a/\ufffd\ufffd' },
    ]);
  });
});
