/** Both stores over one contract; then what only a folder, or only S3, can suffer. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import { copyHashed } from '../../src/artifacts/one-pass.ts';
import { openS3Store } from '../../src/artifacts/s3-store.ts';
import { blobKey, ContentMismatch, type Store } from '../../src/artifacts/store.ts';
import { limits } from '../../src/job/limits.ts';
import { digestOf, inFile, inMemory, largeSource, sha256Of, sourceOf } from '../support/contents.ts';
import { firstTimes } from '../support/fault-proxy.ts';
import { freePorts } from '../support/free-ports.ts';
import { built, NOBODY, runAsNobody, whyNoOtherUser } from '../support/other-user.ts';
import { openS3Fixture, removeBucket, type S3Fixture } from '../support/s3-fixture.ts';
import { type S3Server, startS3Server } from '../support/s3-server.ts';
import { describeStoreContract } from '../support/store-contract.ts';
import { tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const LARGE_BYTES = 2.5 * limits.s3PartBytes;
// Decided before the tests are told, because a test that cannot run must be shown as skipped.
const server = await startS3Server();
const folder = tempFolder();

afterAll(async () => {
  await server?.stop();
  folder.remove();
});

describe('the folder store', () => {
  const path = `${folder.path}/store`;
  let store: Store;
  beforeAll(async () => {
    store = await openFolderStore(path);
  });
  afterAll(() => store.close());

  describeStoreContract('in a folder', { store: () => store, leftovers: async () => readdirSync(`${path}/incoming`) });

  it('gives a small blob whole, and nothing where it has not as many bytes as are expected', async () => {
    const source = sourceOf('whole content');
    await store.putBlob(source);
    const whole = (bytes: number, sha256 = source.sha256) => store.getWholeBlob?.(sha256, bytes);
    expect(String(await whole(source.bytes))).toBe('whole content');
    expect(await whole(source.bytes - 1)).toBeNull();
    expect(await whole(source.bytes + 1)).toBeNull();
    await expect(whole(1, sha256Of('none'))).rejects.toMatchObject({ code: 'not-found' });
    await expect(whole(1, '../none')).rejects.toMatchObject({ code: 'invalid-value' });
  });

  it('removes its own temporary files and folders of long ago when it opens, and no others', async () => {
    const [old, fresh] = [`file-${randomUUID()}`, `file-${randomUUID()}`];
    const names = [old, fresh, 'file-of-somebody', `probe-${randomUUID()}`];
    for (const name of names) writeFileSync(`${path}/incoming/${name}`, 'x');
    const longAgo = new Date(Date.now() - limits.storeLeftoverMs - 60_000);
    const [oldFolder, freshFolder] = [`files-${randomUUID()}`, `files-${randomUUID()}`];
    for (const name of [oldFolder, freshFolder]) {
      mkdirSync(`${path}/incoming/${name}`);
      writeFileSync(`${path}/incoming/${name}/1`, 'x');
    }
    for (const name of [old, 'file-of-somebody', names[3], oldFolder]) utimesSync(`${path}/incoming/${name}`, longAgo, longAgo);
    await (await openFolderStore(path)).close();
    expect(readdirSync(`${path}/incoming`).sort()).toEqual([fresh, freshFolder, 'file-of-somebody'].sort());
    rmSync(`${path}/incoming/${freshFolder}`, { recursive: true });
  });

  const missing = whyNoOtherUser();
  if (missing !== null) process.stderr.write(`a store of another user cannot be tested here: ${missing}\n`);
  (missing === null ? it : it.skip)('opens beside a folder that only another user can remove', async () => {
    const others = `${folder.path}/${randomUUID()}`;
    await (await openFolderStore(others)).close();
    const [lying, old] = [`${others}/incoming/files-${randomUUID()}`, `${others}/incoming/file-${randomUUID()}`];
    mkdirSync(lying);
    for (const file of [`${lying}/1`, old]) writeFileSync(file, 'x');
    for (const path of [folder.path, others, `${others}/incoming`]) chownSync(path, NOBODY, NOBODY);
    const longAgo = new Date(Date.now() - limits.storeLeftoverMs - 60_000);
    for (const path of [lying, old]) utimesSync(path, longAgo, longAgo);
    const open = `import('${built('src/artifacts/folder-store.js')}').then(async ({ openFolderStore }) => (await openFolderStore(process.argv[1])).close())`;
    expect(runAsNobody(open, others)).toEqual(['', '', 0]);
    expect([existsSync(old), existsSync(lying)]).toEqual([false, true]);
  });

  it('keeps its word when somebody removes empty folders under it', async () => {
    await store.putDocument('runs/gone/1/x', Buffer.from('x'));
    const other = await openFolderStore(path);
    await other.removeDocument('runs/gone/1/x');
    expect(existsSync(`${path}/runs/gone`)).toBe(false);
    await store.putDocument('runs/gone/1/y', Buffer.from('y'));
    expect(await store.listDocuments('runs/gone/')).toEqual(['runs/gone/1/y']);
  });

  it('has the folders of all blobs from the start, and makes them again where they went', async () => {
    const at = `${folder.path}/prepared`;
    await (await openFolderStore(at)).close();
    const folders = readdirSync(`${at}/blobs/sha256`).sort();
    expect([folders.length, folders[0], folders.at(-1)]).toEqual([256, '00', 'ff']);
    const source = sourceOf('into a folder that went');
    rmdirSync(`${at}/blobs/sha256/${source.sha256.slice(0, 2)}`);
    const again = await openFolderStore(at);
    for (const name of readdirSync(`${at}/blobs/sha256`)) rmdirSync(`${at}/blobs/sha256/${name}`);
    rmdirSync(`${at}/blobs/sha256`);
    expect(await again.putBlob(source)).toBe('stored');
    expect(await text(await again.getBlob(source.sha256))).toBe('into a folder that went');
    await again.close();
  });

  it('makes nothing in its place while its disk is not there', async () => {
    const [there, away] = [`${folder.path}/disk`, `${folder.path}/disk-away`];
    const other = await openFolderStore(`${there}/store`);
    renameSync(there, away);
    for (const source of [sourceOf('no disk'), inMemory('no disk at all')]) {
      await expect(other.putBlob(source)).rejects.toMatchObject({ code: 'store-unavailable' });
    }
    await expect(other.putDocument('runs/a/1/x', Buffer.from('x'))).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(existsSync(there)).toBe(false);
    renameSync(away, there);
    expect(await other.putBlob(sourceOf('no disk'))).toBe('stored');
  });

  describe('a large file that is stored while it is hashed', () => largeFileTests({ store: () => store, path }));

  describe('small files that are stored together', () => smallFileTests({ store: () => store, path }));

  it('refuses a folder that cannot be written, naming it', async () => {
    writeFileSync(`${folder.path}/file`, '');
    const refused = openFolderStore(`${folder.path}/file/store`);
    await expect(refused).rejects.toMatchObject({ code: 'bad-config', message: expect.stringMatching(/^[^\n]*file\/store[^\n]*$/) });
  });

  it('says that it is full, and leaves nothing of what did not fit', async () => {
    const small = `${folder.path}/small`;
    mkdirSync(small);
    if (!mounted(small)) return;
    try {
      const full = await openFolderStore(small);
      const source = largeSource(4 * 1024 * 1024);
      await expect(full.putBlob(source)).rejects.toMatchObject({ code: 'store-full' });
      await expect(full.putDocument('runs/a/b', Buffer.alloc(4 * 1024 * 1024))).rejects.toMatchObject({ code: 'store-full' });
      const { path: at = '' } = await inFile(`${folder.path}/does-not-fit`, largeSource(limits.onePassBytesMin));
      const file = openSync(at, 'r');
      await expect(full.openBatch().putFile?.(file, limits.onePassBytesMin)).rejects.toMatchObject({ code: 'store-full' });
      closeSync(file);
      const halves = ['one', 'other'].map((name) => `${folder.path}/${name}`);
      for (const half of halves) writeFileSync(half, randomBytes(600 * 1024));
      expect(await full.openBatch().putFiles?.(halves)).toEqual([expect.anything(), null]);
      expect(readdirSync(`${small}/incoming`)).toEqual([]);
      expect(await full.putBlob(sourceOf('fits'))).toBe('stored');
    } finally {
      execFileSync('umount', [small]);
    }
  });
});

/** A file system of 1 MiB; needs root. */
function mounted(path: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', path], { stdio: 'ignore' });
    return true;
  } catch {
    process.stderr.write('a full folder cannot be tested here: no file system can be mounted\n');
    return false;
  }
}

let s3: S3Fixture;
function largeFileTests({ store, path }: { store: () => Store; path: string }): void {
  /** No two tests have one length, unless they say so. */
  let bytes = limits.onePassBytesMin;
  const files: number[] = [];
  afterEach(() => files.splice(0).forEach(closeSync));

  async function opened(length: number, seed: string): Promise<{ file: number; sha256: string }> {
    const { sha256, path: at = '' } = await inFile(`${folder.path}/${randomUUID()}`, largeSource(length, { seed }));
    const file = openSync(at, 'r');
    files.push(file);
    return { file, sha256 };
  }

  async function put(o: { file: number; length?: number; into?: Store; signal?: AbortSignal }): Promise<{ sha256: string } | null> {
    const batch = (o.into ?? store()).openBatch();
    const stored = (await batch.putFile?.(o.file, o.length ?? bytes, o.signal)) ?? null;
    await batch.settle();
    return stored;
  }

  const leftovers = () => readdirSync(`${path}/incoming`).filter((name) => !known.has(name));
  let known: Set<string>;
  beforeEach(() => {
    bytes += 1;
    known = new Set(readdirSync(`${path}/incoming`));
  });

  it('is there under its digest', async () => {
    const { file, sha256 } = await opened(bytes, 'new');
    expect(await put({ file })).toEqual({ sha256 });
    expect(await digestOf(await store().getBlob(sha256))).toEqual({ bytes, sha256 });
    expect(leftovers()).toEqual([]);
  });

  it('is not where it is as long as one that came before, in one way or the other: that may be the same', async () => {
    await put(await opened(bytes, 'one'));
    const another = await opened(bytes, 'another');
    expect(await put(another)).toBeNull();
    expect(await store().statBlob(another.sha256)).toBeNull();
    await store().putBlob(largeSource(bytes + 500, { seed: 'usual' }));
    expect(await put({ ...(await opened(bytes + 500, 'third')), length: bytes + 500 })).toBeNull();
  });

  it('is not where it is small', async () => {
    expect(await put({ ...(await opened(limits.onePassBytesMin - 1, 'small')), length: limits.onePassBytesMin - 1 })).toBeNull();
  });

  it('is written for nothing where the store has it, and leaves what is there', async () => {
    const { file, sha256 } = await opened(bytes, 'known');
    await put({ file });
    const before = statSync(`${path}/${blobKey(sha256)}`, { bigint: true });
    const other = await openFolderStore(path);
    expect(await put({ file, into: other })).toEqual({ sha256 });
    await other.close();
    expect(statSync(`${path}/${blobKey(sha256)}`, { bigint: true })).toEqual(before);
    expect(leftovers()).toEqual([]);
  });

  it('heals what is damaged', async () => {
    const { file, sha256 } = await opened(bytes, 'damaged');
    await put({ file });
    truncateSync(`${path}/${blobKey(sha256)}`, 5);
    const other = await openFolderStore(path);
    await put({ file, into: other });
    await other.close();
    expect(await digestOf(await store().getBlob(sha256))).toEqual({ bytes, sha256 });
  });

  it.each([-1, 1])('is refused where it is not as long as it was, by %d byte', async (more) => {
    const { file, sha256 } = await opened(bytes + more, `changed ${more}`);
    await expect(put({ file })).rejects.toThrow(ContentMismatch);
    expect(await store().statBlob(sha256)).toBeNull();
    expect(leftovers()).toEqual([]);
  });

  it('is given up with the signal', async () => {
    const { file } = await opened(bytes, 'given up');
    await expect(put({ file, signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    expect(leftovers()).toEqual([]);
  });

  it('is given up with the signal while it is written', async () => {
    const endless = `${folder.path}/endless`;
    writeFileSync(endless, '');
    truncateSync(endless, 2 ** 40);
    const file = openSync(endless, 'r');
    files.push(file);
    const given = new AbortController();
    const putting = put({ file, length: 2 ** 40, signal: given.signal });
    putting.catch(() => undefined);
    await until(() => leftovers().some((name) => statSync(`${path}/incoming/${name}`).size > 0), 'the first of it');
    given.abort(new Error('enough'));
    await expect(putting).rejects.toThrow('enough');
    expect(leftovers()).toEqual([]);
  });

  it('leaves others their turn while it is written', async () => {
    const endless = `${folder.path}/endless too`;
    writeFileSync(endless, '');
    truncateSync(endless, 2 ** 40);
    const given = new AbortController();
    const copying = Array.from({ length: limits.fileThreadsMax + 1 }, (_, index) => {
      const file = openSync(endless, 'r');
      files.push(file);
      return put({ file, length: 2 ** 40 - index, signal: given.signal });
    });
    const over = Promise.allSettled(copying);
    await until(
      () => leftovers().filter((name) => statSync(`${path}/incoming/${name}`).size > 0).length === copying.length,
      'all of them to begin',
    );
    const small = `${folder.path}/meanwhile`;
    writeFileSync(small, 'meanwhile');
    const batch = store().openBatch();
    expect(await batch.putFiles?.([small])).toMatchObject([{ sha256: sha256Of('meanwhile') }]);
    expect(leftovers()).toHaveLength(copying.length);
    given.abort(new Error('enough'));
    expect((await over).map(({ status }) => status)).toEqual(copying.map(() => 'rejected'));
    expect(leftovers()).toEqual([]);
  });

  it('tells that it could not be made durable as a fault of the store', async () => {
    const long = `${folder.path}/long`;
    writeFileSync(long, '');
    truncateSync(long, 40 * 1024 * 1024);
    const source = openSync(long, 'r');
    files.push(source);
    const target = await open('/dev/null', 'w');
    const guard = <T>(work: Promise<T>): Promise<T> => work.catch((cause) => Promise.reject(new Error('of the store', { cause })));
    const copying = copyHashed({ source, bytes: 40 * 1024 * 1024, file: target, guard, signal: undefined });
    await expect(copying).rejects.toMatchObject({ message: 'of the store', cause: { code: 'EINVAL' } });
    await target.close();
  });

  it.each(['source', 'target'])('tells the faults of the %s by what they are of', async (which) => {
    const { file } = await opened(bytes, `faults of the ${which}`);
    const target = await (which === 'target' ? open(folder.path, 'r') : open(`${folder.path}/target`, 'w'));
    const source = which === 'source' ? openSync(folder.path, 'r') : file;
    if (source !== file) files.push(source);
    const guard = <T>(work: Promise<T>): Promise<T> => work.catch((cause) => Promise.reject(new Error('of the store', { cause })));
    const copying = copyHashed({ source, bytes, file: target, guard, signal: undefined });
    await expect(copying).rejects.toMatchObject(
      which === 'source' ? { code: 'EISDIR' } : { message: 'of the store', cause: { code: 'EBADF' } },
    );
    await target.close();
  });
}

function smallFileTests({ store, path }: { store: () => Store; path: string }): void {
  let home: string;
  beforeEach(() => {
    home = `${folder.path}/${randomUUID()}`;
    mkdirSync(home);
  });
  const leave = (name: string, content: string, mode = 0o644): string => {
    writeFileSync(`${home}/${name}`, content, { mode });
    return `${home}/${name}`;
  };
  const put = async (...paths: string[]) => {
    const batch = store().openBatch();
    const answers = await batch.putFiles?.(paths);
    await batch.settle();
    return answers;
  };

  it('are there under their digests, new or known', async () => {
    const lying = readdirSync(`${path}/incoming`);
    const modes = [0o600, 0o644, 0o755];
    const contents = ['small and new', '', `small ${'x'.repeat(100_000)}`];
    const paths = contents.map((content, index) => leave(`${index}`, content, modes[index]));
    const expected = contents.map((content, index) => ({ sha256: sha256Of(content), bytes: content.length, mode: modes[index] }));
    expect(await put(...paths, paths[0] as string)).toEqual([...expected, expected[0]]);
    const before = expected.map(({ sha256 }) => statSync(`${path}/${blobKey(sha256)}`, { bigint: true }));
    expect(await put(...paths)).toEqual(expected);
    expect(expected.map(({ sha256 }) => statSync(`${path}/${blobKey(sha256)}`, { bigint: true }))).toEqual(before);
    for (const [index, { sha256 }] of expected.entries()) expect(await text(await store().getBlob(sha256))).toBe(contents[index]);
    expect(readdirSync(`${path}/incoming`)).toEqual(lying);
  });

  it('are left alone where they are links, folders, gone, no files or not small', async () => {
    const there = leave('there', 'what a link leads to');
    symlinkSync(there, `${home}/link`);
    execFileSync('mkfifo', [`${home}/fifo`]);
    const large = leave('large', 'l'.repeat(limits.wholeFileBytesMax + 1));
    const paths = [`${home}/link`, home, `${home}/gone`, `${home}/fifo`, large];
    expect(await put(...paths)).toEqual(paths.map(() => null));
    expect(await store().statBlob(sha256Of('what a link leads to'))).toBeNull();
  });

  it('heal what is damaged', async () => {
    const content = 'small and damaged';
    const file = leave('file', content);
    await put(file);
    truncateSync(`${path}/${blobKey(sha256Of(content))}`, 5);
    await put(file);
    expect(await text(await store().getBlob(sha256Of(content)))).toBe(content);
  });

  it('are open a few at a time, however many are asked for', async () => {
    const count = 8 * limits.threadFilesMin;
    const paths = Array.from({ length: count }, (_, index) => leave(`many-${index}`, `one of many: ${index}`));
    const batch = store().openBatch();
    const openFiles = (): number => readdirSync('/proc/self/fd').length;
    const before = openFiles();
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, openFiles() - before);
    }, 1);
    const groups = Array.from({ length: 8 }, (_, at) => paths.slice(at * limits.threadFilesMin, (at + 1) * limits.threadFilesMin));
    const answers = await Promise.all(groups.map((group) => batch.putFiles?.(group)));
    clearInterval(watch);
    expect(answers.flat().filter((one) => one != null)).toHaveLength(count);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(limits.fileThreadsMax * (limits.threadFilesMin + 2));
  });

  it('of others are stored beside some that are given up, and nothing of these stays', async () => {
    const lying = readdirSync(`${path}/incoming`);
    const groups = Array.from({ length: 16 }, (_, group) =>
      Array.from({ length: limits.threadFilesMin }, (_, index) => leave(`${group}-${index}`, `file ${index} of group ${group}`)),
    );
    const batch = store().openBatch();
    const enough = new AbortController();
    const isGivenUp = (group: number): boolean => group % 2 === 1;
    const putting = groups.map((paths, group) => batch.putFiles?.(paths, isGivenUp(group) ? enough.signal : undefined));
    const settled = Promise.allSettled(putting);
    await putting[0];
    enough.abort(new Error('enough'));
    const answers = await settled;
    await batch.settle();
    expect(answers.some(({ status }) => status === 'rejected')).toBe(true);
    for (const [group, answer] of answers.entries()) {
      if (answer.status === 'rejected') expect([isGivenUp(group), answer.reason]).toEqual([true, enough.signal.reason]);
      else expect(answer.value?.map((one) => one?.sha256)).toEqual(groups[group]?.map((file) => sha256Of(readFileSync(file))));
    }
    expect(readdirSync(`${path}/incoming`)).toEqual(lying);
  });

  it('are given up with the signal', async () => {
    const batch = store().openBatch();
    await expect(batch.putFiles?.([leave('file', 'given up')], AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
    expect(await store().statBlob(sha256Of('given up'))).toBeNull();
  });
}

(server === null ? describe.skip : describe)('the S3 store', () => {
  beforeAll(async () => {
    s3 = await openS3Fixture(server as S3Server);
  });
  afterAll(() => s3?.close());

  describeStoreContract('in a bucket', { store: () => s3.store, leftovers: () => s3.unfinished() });
  describe('opening', openingTests);
  describe('beside unfinished uploads', unfinishedTests);
  describe('with a server that is asked to put only what is new', conditionTests);
  describe('over a network that fails for a moment', retryTests);
  describe('with a server that stays unwell', faultTests);
});

function openingTests(): void {
  it('may be opened by many at once, before there is a bucket', async () => {
    const fresh = { ...s3.config, bucket: `builder-test-${randomUUID()}` };
    const stores = await Promise.all(Array.from({ length: 5 }, () => openS3Store(fresh)));
    for (const one of stores) await one.check();
    for (const one of stores) await one.close();
    await removeBucket(s3.plain, fresh.bucket);
  });

  it('names wrong keys in one line without telling them', async () => {
    for (const wrong of [{ secretKey: 'not-the-secret' }, { accessKey: 'nobody' }]) {
      const refused = openS3Store({ ...s3.config, ...wrong });
      await expect(refused).rejects.toMatchObject({
        code: 'store-unavailable',
        message: expect.stringMatching(/^(?!.*not-the-secret)[^\n]*BUILDER_S3_ACCESS_KEY[^\n]*$/),
      });
    }
  });

  it('names an endpoint that is away in one line, after a bounded wait', async () => {
    const [port] = await freePorts(1);
    const refused = openS3Store({ ...s3.config, endpoint: `http://127.0.0.1:${port}` });
    await expect(refused).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringMatching(new RegExp(`^[^\\n]*http://127.0.0.1:${port}[^\\n]*ECONNREFUSED[^\\n]*$`)),
    });
  });

  it('names an endpoint that says nothing in one line, after a bounded wait', async () => {
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const sockets: Socket[] = [];
    silent.on('connection', (socket) => sockets.push(socket.resume()));
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    await expect(openS3Store({ ...s3.config, endpoint })).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringMatching(/^[^\n]*no answer[^\n]*$/),
    });
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
  });

  it('refuses an endpoint that is more than a host', async () => {
    await expect(openS3Store({ ...s3.config, endpoint: `${s3.config.endpoint}/below` })).rejects.toMatchObject({ code: 'bad-config' });
  });
}

function unfinishedTests(): void {
  it('is not spoilt by the unfinished upload of somebody else', async () => {
    const source = largeSource(LARGE_BYTES, { seed: 'spoilt' });
    const key = blobKey(source.sha256);
    const uploadID = await s3.plain.initiateNewMultipartUpload(s3.config.bucket, key, {});
    const wrong = { bucketName: s3.config.bucket, objectName: key, uploadID, partNumber: 1, headers: {} };
    await s3.plain.uploadPart(wrong, Buffer.alloc(limits.s3PartBytes, 'wrong'));
    expect(await s3.store.putBlob(source)).toBe('stored');
    expect(await digestOf(await s3.store.getBlob(source.sha256))).toEqual({ bytes: source.bytes, sha256: source.sha256 });
    expect(await s3.unfinished()).toEqual([key]);
    await s3.plain.abortMultipartUpload(s3.config.bucket, key, uploadID);
  });

  it('sweeps unfinished uploads of long ago by the clock of the server, and leaves those of today', async () => {
    const key = blobKey(sourceOf('unfinished').sha256);
    await s3.plain.initiateNewMultipartUpload(s3.config.bucket, key, {});
    await s3.behindProxy(async () => expect(await s3.unfinished()).toEqual([key]));
    s3.proxy.shiftClock(limits.storeLeftoverMs + 60_000);
    await s3.behindProxy(async () => expect(await s3.unfinished()).toEqual([]));
    s3.proxy.shiftClock(0);
  });
}

function conditionTests(): void {
  it('is asked for nothing but to put what is at hand and new', () =>
    s3.behindProxy(async (other) => {
      const asked: string[] = [];
      s3.proxy.set((request) => {
        asked.push(request);
        return undefined;
      });
      const source = inMemory('new and at hand');
      expect(await other.putBlob(source)).toBe('stored');
      expect(asked.map((request) => request.split(' ')[0])).toEqual(['PUT']);
    }));

  it('may know of no conditions', () =>
    s3.behindProxy(async (other) => {
      const source = inMemory('without conditions');
      s3.proxy.set(firstTimes(1, /^PUT/, { refuse: 501, code: 'NotImplemented' }));
      expect(await other.putBlob(source)).toBe('stored');
      expect(await text(await s3.store.getBlob(source.sha256))).toBe('without conditions');
    }));

  it('is healed of an object of another length', async () => {
    const source = inMemory('the whole of it');
    await s3.plain.putObject(s3.config.bucket, blobKey(source.sha256), 'the whole');
    expect(await s3.store.putBlob(source)).toBe('stored');
    expect(await text(await s3.store.getBlob(source.sha256))).toBe('the whole of it');
  });
}

function retryTests(): void {
  const passing = [{ refuse: 503, code: 'SlowDown' }, { refuse: 500, code: 'InternalError' }, 'reset', 'lose-answer'] as const;
  const requests: [string, RegExp][] = [
    ['the question whether a blob is known', /^HEAD/],
    ['a small blob', /^PUT [^?]*$/],
    ['the beginning of an upload', /^POST .*[?]uploads/],
    ['a part', /^PUT .*partNumber=2/],
    ['the end of an upload', /^POST .*uploadId=/],
  ];
  for (const fault of passing) {
    const name = typeof fault === 'string' ? fault : `${fault.refuse}`;
    for (const [what, matching] of requests) {
      it(`tries again after ${name} of ${what}`, () =>
        s3.behindProxy(async (other) => {
          const seed = `${name} ${what}`;
          const source = what === 'a small blob' ? sourceOf(seed) : largeSource(LARGE_BYTES, { seed });
          s3.proxy.set(firstTimes(2, matching, fault));
          expect(await other.putBlob(source)).toBe('stored');
          expect(await digestOf(await s3.store.getBlob(source.sha256))).toEqual({ bytes: source.bytes, sha256: source.sha256 });
        }));
    }
  }
}

function faultTests(): void {
  it('gives up on a server that stays unwell, and leaves nothing half done', () =>
    s3.behindProxy(async (other) => {
      const source = largeSource(LARGE_BYTES, { seed: 'unwell' });
      for (const matching of [/partNumber=2/, /^POST .*uploadId=/]) {
        s3.proxy.set(firstTimes(1_000, matching, { refuse: 503, code: 'SlowDown' }));
        const given = other.putBlob(source);
        await expect(given).rejects.toMatchObject({
          code: 'store-unavailable',
          message: expect.stringMatching(/^[^\n]*503 SlowDown[^\n]*$/),
        });
        expect(await s3.store.statBlob(source.sha256)).toBeNull();
      }
      expect((await s3.unfinished()).filter((key) => key === blobKey(source.sha256))).toEqual([]);
    }));

  it('says that it is full', () =>
    s3.behindProxy(async (other) => {
      for (const fault of [
        { refuse: 507, code: 'XMinioStorageFull' },
        { refuse: 403, code: 'QuotaExceeded' },
      ]) {
        s3.proxy.set(firstTimes(1_000, /^PUT/, fault));
        await expect(other.putBlob(sourceOf('no room'))).rejects.toMatchObject({ code: 'store-full' });
        await expect(other.putBlob(largeSource(LARGE_BYTES))).rejects.toMatchObject({ code: 'store-full' });
        await expect(other.putDocument('runs/a/b', Buffer.from('x'))).rejects.toMatchObject({ code: 'store-full' });
      }
    }));

  it('tells a reader whose connection broke', () =>
    s3.behindProxy(async (other) => {
      const content = 'read in two pieces '.repeat(100_000);
      await s3.store.putBlob(sourceOf(content));
      await s3.store.putDocument('runs/cut/a', Buffer.from(content));
      s3.proxy.set(firstTimes(1_000, /^GET/, 'cut-answer'));
      const stream = await other.getBlob(sourceOf(content).sha256);
      await expect(buffer(stream)).rejects.toMatchObject({ code: 'store-unavailable' });
      await expect(other.getDocument('runs/cut/a')).rejects.toMatchObject({ code: 'store-unavailable' });
      await expect(other.check()).rejects.toMatchObject({ code: 'store-unavailable' });
      s3.proxy.set(() => undefined);
      expect(await text(await other.getBlob(sourceOf(content).sha256))).toBe(content);
    }));
}
