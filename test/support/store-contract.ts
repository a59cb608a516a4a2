/** What every store must do, told as tests: run once over each. */
import { createReadStream } from 'node:fs';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from '@jest/globals';
import { ContentMismatch, type Store } from '../../src/artifacts/store.ts';
import { limits } from '../../src/job/limits.ts';
import { digestOf, inFile, inMemory, largeSource, sha256Of, sourceOf } from './contents.ts';
import { memoryHeld } from './heap.ts';
import { tempFolder } from './temp.ts';
import { until } from './until.ts';

const MIB = 1024 * 1024;
/** Three parts of an upload, the last one not full. */
const LARGE_BYTES = 2.5 * limits.s3PartBytes;

export interface StoreUnderTest {
  store(): Store;
  /** What lies about of writes that did not come to their end. */
  leftovers(): Promise<string[]>;
}

export function describeStoreContract(name: string, { store, leftovers }: StoreUnderTest): void {
  describe(`${name}: blobs`, () => blobTests({ store, leftovers }));
  describe(`${name}: blobs that do not arrive`, () => failureTests({ store, leftovers }));
  describe(`${name}: documents`, () => documentTests(store));
  it(`${name} tells that it can be read and written`, async () => {
    await expect(store().check()).resolves.toBeUndefined();
  });
}

async function inTempFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = tempFolder();
  try {
    await work(folder.path);
  } finally {
    folder.remove();
  }
}

/** What the tests before have left may still be on its way out. */
async function bytesHeldAtRest(): Promise<number> {
  const held = [-1];
  await until(() => held.unshift(memoryHeld().arrayBuffers) && held[0] === held[1], 'memory to be at rest');
  return held[0] as number;
}

function refuseToOpen(why: string): never {
  throw new Error(why);
}

function blobTests({ store, leftovers }: StoreUnderTest): void {
  it('are given back as they were stored, and known from then on', async () => {
    const source = sourceOf('first content');
    expect(await store().statBlob(source.sha256)).toBeNull();
    expect(await store().putBlob(source)).toBe('stored');
    expect(await store().statBlob(source.sha256)).toBe(source.bytes);
    expect(await text(await store().getBlob(source.sha256))).toBe('first content');
    const unread = { ...source, open: () => refuseToOpen('known content was opened') };
    expect(await store().putBlob(unread)).toBe('known');
  });

  it('may be empty', async () => {
    const source = sourceOf('');
    expect(await store().putBlob(source)).toBe('stored');
    expect(await store().statBlob(source.sha256)).toBe(0);
    expect(await text(await store().getBlob(source.sha256))).toBe('');
  });

  it('may come from memory, then without being opened', async () => {
    const source = { ...inMemory('at hand'), open: () => refuseToOpen('content at hand was opened') };
    expect(await store().putBlob(source)).toBe('stored');
    expect(await store().putBlob(source)).toBe('known');
    expect(await text(await store().getBlob(source.sha256))).toBe('at hand');
    const empty = inMemory('');
    await store().putBlob(empty);
    expect(await store().statBlob(empty.sha256)).toBe(0);
  });

  it('may lie in a file, of any length', async () => {
    await inTempFolder(async (folder) => {
      for (const bytes of [10, MIB, 2 * MIB, 3.5 * MIB, LARGE_BYTES + 1]) {
        const source = await inFile(`${folder}/file`, largeSource(bytes, { seed: `in a file ${bytes}` }));
        expect(await store().putBlob(source)).toBe('stored');
        expect(await digestOf(await store().getBlob(source.sha256))).toEqual({ bytes, sha256: source.sha256 });
      }
    });
  });

  it('may be stored as a batch, which can be settled again and again', async () => {
    const batch = store().openBatch();
    const sources = Array.from({ length: 30 }, (_, n) => (n % 2 === 0 ? inMemory(`batch ${n}`) : sourceOf(`batch ${n}`)));
    const put = () => Promise.all(sources.map((source) => batch.putBlob(source)));
    expect(await put()).toEqual(sources.map(() => 'stored'));
    await batch.settle();
    for (const [n, { sha256 }] of sources.entries()) expect(await text(await store().getBlob(sha256))).toBe(`batch ${n}`);
    expect(await put()).toEqual(sources.map(() => 'known'));
    await batch.settle();
    await batch.settle();
    expect(await leftovers()).toEqual([]);
  });

  it('can be read in part', async () => {
    const { sha256 } = sourceOf('0123456789');
    await store().putBlob(sourceOf('0123456789'));
    const part = async (start: number, end: number): Promise<string> => text(await store().getBlob(sha256, { start, end }));
    expect(await part(0, 0)).toBe('0');
    expect(await part(0, 4)).toBe('01234');
    expect(await part(3, 5)).toBe('345');
    expect(await part(7, 1000)).toBe('789');
    await expect(part(10, 12)).rejects.toMatchObject({ code: 'range-not-satisfiable' });
    await expect(part(5, 4)).rejects.toMatchObject({ code: 'range-not-satisfiable' });
  });

  it('that nobody stored are not found', async () => {
    await expect(store().getBlob(sha256Of('nobody'))).rejects.toMatchObject({ code: 'not-found' });
    await expect(store().getBlob(sha256Of('nobody'), { start: 0, end: 1 })).rejects.toMatchObject({ code: 'not-found' });
  });

  it('are named by digests alone', async () => {
    for (const digest of ['', '../../etc/passwd', 'A'.repeat(64), `${sha256Of('x')}/`]) {
      await expect(store().statBlob(digest)).rejects.toMatchObject({ code: 'invalid-value' });
      await expect(store().getBlob(digest)).rejects.toMatchObject({ code: 'invalid-value' });
      await expect(store().putBlob({ ...sourceOf('x'), sha256: digest })).rejects.toMatchObject({ code: 'invalid-value' });
    }
  });

  it('of several parts arrive whole, a part at a time in memory', async () => {
    const source = largeSource(6 * limits.s3PartBytes + 1);
    const before = await bytesHeldAtRest();
    let most = 0;
    let read = 0;
    const watched = source.upTo(source.bytes);
    const open = () =>
      watched
        .open()
        .on('data', (chunk: Buffer) => {
          const part = Math.floor(read / limits.s3PartBytes);
          read += chunk.byteLength;
          if (Math.floor(read / limits.s3PartBytes) !== part) most = Math.max(most, memoryHeld().arrayBuffers - before);
        })
        .pause();
    expect(await store().putBlob({ ...source, open })).toBe('stored');
    expect(await digestOf(await store().getBlob(source.sha256))).toEqual({ bytes: source.bytes, sha256: source.sha256 });
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(source.bytes / 2);
    expect(await leftovers()).toEqual([]);
  });

  it('may be stored twice at once', async () => {
    for (const source of [sourceOf('twice at once'), largeSource(LARGE_BYTES, { seed: 'twice' })]) {
      await Promise.all([store().putBlob(source), store().putBlob(source), store().putBlob(source)]);
      expect(await digestOf(await store().getBlob(source.sha256))).toEqual({ bytes: source.bytes, sha256: source.sha256 });
    }
    expect(await leftovers()).toEqual([]);
  });

  it('may come many at once', async () => {
    const sources = Array.from({ length: 200 }, (_, n) => sourceOf(`small content ${n}`));
    await Promise.all(sources.map((source) => store().putBlob(source)));
    const sizes = await Promise.all(sources.map((source) => store().statBlob(source.sha256)));
    expect(sizes).toEqual(sources.map((source) => source.bytes));
  });
}

function failureTests({ store, leftovers }: StoreUnderTest): void {
  const expectNothing = async (sha256: string): Promise<void> => {
    expect(await store().statBlob(sha256)).toBeNull();
    expect(await leftovers()).toEqual([]);
  };

  it('because the content is another are refused, and the right one is taken afterwards', async () => {
    const declared = sourceOf('declared');
    for (const content of ['declares', 'declare', 'declared and more', '']) {
      const changed = { ...declared, open: sourceOf(content).open };
      await expect(store().putBlob(changed)).rejects.toBeInstanceOf(ContentMismatch);
      await expectNothing(declared.sha256);
      await expect(store().putBlob({ ...declared, content: Buffer.from(content) })).rejects.toBeInstanceOf(ContentMismatch);
      await expectNothing(declared.sha256);
    }
    expect(await store().putBlob(declared)).toBe('stored');
  });

  it('because a large source ends early, or goes on, are refused', async () => {
    const source = largeSource(LARGE_BYTES, { seed: 'ends early' });
    for (const bytes of [LARGE_BYTES - 1, limits.s3PartBytes, 0, LARGE_BYTES + 1]) {
      await expect(store().putBlob(source.upTo(bytes))).rejects.toBeInstanceOf(ContentMismatch);
      await expectNothing(source.sha256);
    }
  });

  it('because a file has changed are refused', async () => {
    await inTempFolder(async (folder) => {
      const declared = largeSource(2.5 * MIB, { seed: 'declared' });
      for (const held of [declared.upTo(2 * MIB), largeSource(2.5 * MIB, { seed: 'held' }), largeSource(3 * MIB, { seed: 'declared' })]) {
        await expect(store().putBlob(await inFile(`${folder}/changed`, declared, held))).rejects.toBeInstanceOf(ContentMismatch);
        await expectNothing(declared.sha256);
      }
      const reason = new Error('given up');
      const source = await inFile(`${folder}/whole`, declared);
      await expect(store().putBlob(source, AbortSignal.abort(reason))).rejects.toBe(reason);
      await expectNothing(declared.sha256);
      expect(await store().putBlob(source)).toBe('stored');
    });
  });

  it('because the source fails tell what it said', async () => {
    const missing = { ...sourceOf('x'.repeat(10)), open: () => createReadStream('/nonexistent/file') };
    await expect(store().putBlob(missing)).rejects.toMatchObject({ code: 'ENOENT' });
    const source = largeSource(LARGE_BYTES, { seed: 'fails' });
    const fail = () => {
      throw new Error('the disk is gone');
    };
    for (const bytes of [0, 100, limits.s3PartBytes + 5 * MIB]) {
      await expect(store().putBlob(source.upTo(bytes, fail))).rejects.toThrow('the disk is gone');
      await expectNothing(source.sha256);
    }
    const throwing = { ...source, open: () => refuseToOpen('cannot be opened') };
    await expect(store().putBlob(throwing)).rejects.toThrow('cannot be opened');
  });

  it('because somebody cancelled leave nothing, and repeating content arrives at the next try', async () => {
    const source = largeSource(LARGE_BYTES, { seed: 'again and ', repeating: true });
    for (const bytes of [0, limits.s3PartBytes + MIB, LARGE_BYTES]) {
      const cancel = new AbortController();
      const stopping = source.upTo(bytes, () => cancel.abort(new Error('no longer wanted')));
      await expect(store().putBlob(stopping, cancel.signal)).rejects.toThrow('no longer wanted');
      await expectNothing(source.sha256);
    }
    await expect(store().putBlob(source, AbortSignal.abort(new Error('too late')))).rejects.toThrow('too late');
    expect(await store().putBlob(source, new AbortController().signal)).toBe('stored');
    expect(await digestOf(await store().getBlob(source.sha256))).toEqual({ bytes: source.bytes, sha256: source.sha256 });
    expect(await leftovers()).toEqual([]);
  });
}

function documentTests(store: () => Store): void {
  it('are replaced as a whole and removed', async () => {
    const key = 'runs/a/1-x/manifest.json';
    expect(await store().getDocument(key)).toBeNull();
    await store().putDocument(key, Buffer.from('first and longer'));
    await store().putDocument(key, Buffer.from('second'));
    expect(String(await store().getDocument(key))).toBe('second');
    await store().removeDocument(key);
    await store().removeDocument(key);
    expect(await store().getDocument(key)).toBeNull();
    expect(await store().listDocuments('runs/a/')).toEqual([]);
  });

  it('may be empty, and larger than a part', async () => {
    const large = Buffer.alloc(limits.s3PartBytes + MIB, 'large');
    await store().putDocument('runs/b/empty', Buffer.alloc(0));
    await store().putDocument('runs/b/large', large);
    expect(await store().getDocument('runs/b/empty')).toEqual(Buffer.alloc(0));
    expect(large.equals((await store().getDocument('runs/b/large')) as Buffer)).toBe(true);
  });

  it('lie below a folder of their own and nowhere else', () => expectBadKeysRefused(store()));

  it('are listed by the beginning of their keys, in order of bytes, whatever characters these hold', async () => {
    const names = [
      'a',
      'B',
      'a b',
      'a+b',
      'a%20b',
      'a%',
      '=41',
      'a&b=c;d',
      'é',
      'Ｚ',
      '😀',
      '\'"<>',
      '?#',
      '007',
      '~',
      '\\',
      '*',
      'a.b',
      'a-b',
      '.hidden',
    ];
    for (const name of names) await store().putDocument(`runs/odd/${name}`, Buffer.from(name));
    const expected = names.map((name) => `runs/odd/${name}`).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(await store().listDocuments('runs/odd/')).toEqual(expected);
    expect(await store().listDocuments('runs/odd/a')).toEqual(expected.filter((key) => key.startsWith('runs/odd/a')));
    expect(await store().listDocuments('runs/od')).toEqual(expected);
    expect(await store().listDocuments('runs/odd/a/')).toEqual([]);
    for (const name of names) expect(String(await store().getDocument(`runs/odd/${name}`))).toBe(name);
  });

  it('are listed all, however many', async () => {
    const keys = Array.from({ length: 1_010 }, (_, n) => `runs/many/${n % 7}/${String(n).padStart(4, '0')}`);
    for (let at = 0; at < keys.length; at += 101) {
      await Promise.all(keys.slice(at, at + 101).map((key) => store().putDocument(key, Buffer.from(key))));
    }
    expect(await store().listDocuments('runs/many/')).toEqual([...keys].sort());
  });
}

async function expectBadKeysRefused(store: Store): Promise<void> {
  const bad = [
    '',
    'runs',
    '/runs/a',
    'runs/../a',
    'runs/./a',
    'runs//a',
    'runs/a/',
    'blobs/a',
    'incoming/a',
    '../a',
    'runs/a\0b',
    'runs/a\nb',
    'runs/\ud800',
  ];
  for (const key of [...bad, `runs/${'x'.repeat(limits.documentKeyBytesMax)}`]) {
    await expect(store.putDocument(key, Buffer.from('x'))).rejects.toMatchObject({ code: 'invalid-value' });
    await expect(store.getDocument(key)).rejects.toMatchObject({ code: 'invalid-value' });
    await expect(store.removeDocument(key)).rejects.toMatchObject({ code: 'invalid-value' });
  }
  await expect(store.listDocuments('blobs/')).rejects.toMatchObject({ code: 'invalid-value' });
  await expect(store.listDocuments('runs/../')).rejects.toMatchObject({ code: 'invalid-value' });
}
