/** Small files that a thread writes at one go: each durable and under its name, or told to be not. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type DurableFiles, openDurableFiles } from '../../src/artifacts/durable-files.ts';
import { createDurableFolders } from '../../src/artifacts/durable-folders.ts';
import { fileThreads, type WriteRequest } from '../../src/artifacts/file-threads.ts';
import { createFolderSync } from '../../src/artifacts/folder-sync.ts';
import { createWritingTogether } from '../../src/artifacts/writing-together.ts';
import { limits } from '../../src/job/limits.ts';
import { tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const folder = tempFolder();
afterAll(() => folder.remove());

let root: string;
let count = 0;
const at = (name: string): string => `${root}/${name}`;
const text = (name: string): string => readFileSync(at(name), 'utf8');

beforeEach(async () => {
  count += 1;
  root = `${folder.path}/${count}`;
  mkdirSync(at('incoming'), { recursive: true });
  await until(async () => (await fileThreads.write([])) !== null, 'a thread that is ready');
});

describe('a thread that is asked to write small files', () => {
  const request = (name: string, more: Partial<WriteRequest> = {}): WriteRequest => ({
    temporary: at(`incoming/${name}`),
    target: at(name),
    make: [],
    sync: [root],
    content: new Uint8Array(Buffer.from(`content of ${name}`)),
    ...more,
  });

  it('makes their folders and leaves nothing else', async () => {
    const deep = request('deep', { target: at('a/b/deep'), make: [at('a'), at('a/b')], sync: [root, at('a'), at('a/b')] });
    const again = { ...deep, temporary: at('incoming/again') };
    expect(await fileThreads.write([deep, request('flat'), again])).toEqual([true, true, true]);
    expect([text('a/b/deep'), text('flat'), readdirSync(at('incoming'))]).toEqual(['content of deep', 'content of flat', []]);
  });

  it('tells which it could not write, place or make durable, and leaves nothing of the first two', async () => {
    mkdirSync(at('taken'));
    const asked = [
      request('good'),
      request('not-written', { temporary: at('no-folder/x') }),
      request('taken'),
      request('not-made', { target: at('x/y/z'), make: [at('x/y')] }),
      request('not-synced', { sync: [root, at('no-folder')] }),
      request('last'),
    ];
    expect(await fileThreads.write(asked)).toEqual([true, false, false, false, false, true]);
    expect(readdirSync(root).sort()).toEqual(['good', 'incoming', 'last', 'not-synced', 'taken']);
    expect(readdirSync(at('incoming'))).toEqual([]);
  });
});

describe('a small file in a folder that was known to be durable', () => {
  it('is not told as written where that was forgotten meanwhile', async () => {
    const folders = createDurableFolders(root, createFolderSync());
    const write = createWritingTogether(folders);
    mkdirSync(at('known'));
    folders.know([at('known')]);
    const file = { temporary: at('incoming/x'), target: at('known/x'), content: Buffer.from('x'), withName: true };
    const written = write(file);
    folders.forgetOne(at('known'));
    expect(await written).toBe(false);
    expect(await write(file)).toBe(true);
  });
});

describe('documents that come at the same time', () => {
  let files: DurableFiles;
  beforeEach(async () => {
    files = await openDurableFiles(root);
  });
  const keyOf = (number: number): string => `runs/${number % 7}/${number}/document`;
  const contentOf = (number: number): Buffer => Buffer.alloc(limits.togetherBytesMax - (number % 3) * 100_000, `${number} `);

  it('are all there, also over a former one, and more than are written at one go', async () => {
    const numbers = Array.from({ length: 80 }, (_, index) => index);
    await Promise.all(numbers.map((number) => files.write(keyOf(number), Buffer.from('former'))));
    await Promise.all(numbers.map((number) => files.write(keyOf(number), contentOf(number))));
    expect(numbers.filter((number) => !readFileSync(at(keyOf(number))).equals(contentOf(number)))).toEqual([]);
    expect(readdirSync(at('incoming'))).toEqual([]);
  });

  it('fail alone, for a reason that is told', async () => {
    mkdirSync(at('runs/taken/document'), { recursive: true });
    const written = await Promise.allSettled([
      files.write('runs/one/document', Buffer.from('one')),
      files.write('runs/taken/document', Buffer.from('taken')),
      files.write('runs/other/document', Buffer.from('other')),
    ]);
    expect(written.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(written[1]).toMatchObject({ reason: { code: 'store-unavailable', message: expect.stringContaining(root) } });
    expect([text('runs/one/document'), text('runs/other/document'), readdirSync(at('incoming'))]).toEqual(['one', 'other', []]);
  });

  it('find their folders again where somebody took them away', async () => {
    await files.write('runs/a/b/document', Buffer.from('first'));
    rmSync(at('runs'), { recursive: true });
    await files.write('runs/a/b/document', Buffer.from('second'));
    expect(text('runs/a/b/document')).toBe('second');
  });

  it('make nothing where the store is gone', async () => {
    rmSync(root, { recursive: true });
    await expect(files.write('runs/a/b/document', Buffer.from('lost'))).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(existsSync(root)).toBe(false);
  });
});
