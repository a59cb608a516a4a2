/** The store in a local folder: the embedded default of one machine. */
import { constants, type Stats, statSync } from 'node:fs';
import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { limits } from '../job/limits.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { checkedContent, checkSha256, contentInMemory } from './checked-content.ts';
import { codeOf, type DurableFiles, guarded, INCOMING, isFull, openDurableFiles, type Unsettled } from './durable-files.ts';
import { fileThreads } from './file-threads.ts';
import { checkDigest, checkDocumentKey, checkDocumentPrefix, inByteOrder } from './keys.ts';
import { type Copying, copyHashed, createKnownLengths } from './one-pass.ts';
import { PIECE_BYTES, writePieces } from './piece-writer.ts';
import { BLOB_FOLDER, BLOB_FOLDERS, type BlobSource, type ByteRange, blobKey, type Store, type StoredFile } from './store.ts';
import { readWhole } from './whole-file.ts';

const READ_BYTES = 256 * 1024;

/** Makes the folder where it is missing; throws `bad-config` where it cannot be written, `store-full` where it has no room. */
export async function openFolderStore(path: string): Promise<Store> {
  const root = resolve(path);
  const files = await openFiles(root);
  const guard = <T>(work: Promise<T>): Promise<T> => guarded(root, work);
  const findBlob = (sha256: string): Promise<Stats | null> => {
    checkDigest(sha256);
    return guard(orNull(root, () => stat(join(root, blobKey(sha256)))));
  };
  const findNow = (key: string): Stats | null => statSync(join(root, key), { throwIfNoEntry: false }) ?? null;
  /** At once: asked for each of thousands of small files, where the way through the thread pool takes ten times as long. */
  const findStored = (sha256: string): Stats | null | Promise<Stats | null> => {
    checkDigest(sha256);
    try {
      const found = findNow(blobKey(sha256));
      // As orNull: missing is an answer where the store is there.
      if (found !== null || findNow(INCOMING) !== null) return found ?? findNow(blobKey(sha256));
    } catch {}
    return findBlob(sha256);
  };
  const lengths = createKnownLengths();
  const putBlob = async (source: BlobSource, signal?: AbortSignal, later?: Unsettled): Promise<'stored' | 'known'> => {
    const key = blobKey(source.sha256);
    lengths.add(source.bytes);
    // A file of another length is damage; writing it anew heals it.
    const found = await findStored(source.sha256);
    if (found?.size === source.bytes) {
      await files.confirm(key, found, later);
      return 'known';
    }
    signal?.throwIfAborted();
    await files.write(key, contentInMemory(source) ?? ((file) => fill({ file, source, guard, signal })), later);
    return 'stored';
  };
  const putFile = async (o: Omit<Copying, 'file'>, later: Unsettled): Promise<{ sha256: string } | null> => {
    if (o.bytes < limits.onePassBytesMin || lengths.has(o.bytes)) return null;
    let sha256: string | null = null;
    await files.writeUnnamed(async (file) => {
      sha256 = await copyHashed({ ...o, file });
      if (sha256 === null) return null;
      const found = await findStored(sha256);
      if (found?.size !== o.bytes) return blobKey(sha256);
      // Whoever put it there before may not have made its name durable.
      await files.confirm(blobKey(sha256), found, later);
      return null;
    }, later);
    if (sha256 === null) return null;
    lengths.add(o.bytes);
    return { sha256 };
  };
  return {
    statBlob: async (sha256) => (await findBlob(sha256))?.size ?? null,
    putBlob: async (source, signal) => putBlob(source, signal),
    openBatch: () => {
      const later: Unsettled = new Map();
      return {
        putBlob: async (source, signal) => putBlob(source, signal, later),
        putFile: (file, bytes, signal) => putFile({ source: file, bytes, guard, signal }, later),
        putFiles: (paths, signal) => putTogether({ root, files, paths, later, signal }),
        settle: () => files.settle(later),
      };
    },
    getBlob: async (sha256, range) => {
      checkDigest(sha256);
      const file = await guard(orNull(root, () => open(join(root, blobKey(sha256)), 'r')));
      if (file === null) throw new BuilderError('not-found', `expected a known blob, got ${sha256}`);
      return readRange(file, range);
    },
    getWholeBlob: (sha256, bytes) => guard(wholeBlob(root, sha256, bytes)),
    putDocument: async (key, content) => {
      checkDocumentKey(key);
      await files.write(key, content);
    },
    getDocument: async (key) => {
      checkDocumentKey(key);
      return guard(orNull(root, () => readFile(join(root, key))));
    },
    listDocuments: async (prefix) => {
      checkDocumentPrefix(prefix);
      return inByteOrder((await guard(filesBelow(root, dirname(`${prefix}x`)))).filter((key) => key.startsWith(prefix)));
    },
    removeDocument: async (key) => {
      checkDocumentKey(key);
      await files.remove(key);
    },
    check: async () => {
      await files.probe();
    },
    close: async () => undefined,
  };
}

async function openFiles(root: string): Promise<DurableFiles> {
  try {
    const files = await openDurableFiles(root);
    await files.sweep(await files.probe());
    // All at once, so that no artifact waits for its own.
    await files.prepare(BLOB_FOLDER, BLOB_FOLDERS);
    return files;
  } catch (thrown) {
    const cause = thrown instanceof BuilderError ? thrown.cause : thrown;
    if (isFull(cause)) return guarded(root, Promise.reject(cause));
    throw new BuilderError('bad-config', `expected a writable folder for the store, got ${root} (${oneLine(cause)})`, { cause });
  }
}

interface Together {
  root: string;
  files: DurableFiles;
  paths: readonly string[];
  later: Unsettled;
  signal: AbortSignal | undefined;
}

async function putTogether({ root, files, paths, later, signal }: Together): Promise<(StoredFile | null)[]> {
  const places = { blobs: join(root, BLOB_FOLDER), incoming: join(root, INCOMING) };
  const put = await fileThreads.put({ paths, ...places, bytesMax: limits.wholeFileBytesMax }, signal);
  if (put === null) return paths.map(() => null);
  for (const one of put) if (one !== null) await files.confirm(blobKey(one.sha256), one.found, later);
  return put.map((one) => one && { sha256: one.sha256, bytes: one.bytes, mode: one.mode });
}

interface Filling {
  file: FileHandle;
  source: BlobSource;
  guard: <T>(work: Promise<T>) => Promise<T>;
  signal: AbortSignal | undefined;
}

async function fill({ file, source, guard, signal }: Filling): Promise<void> {
  if (source.path !== undefined && (await fillFrom(source.path, { file, source, guard, signal }))) return;
  await writePieces(file, inPieces(checkedContent(source, signal)), guard);
}

/** False where there is no thread to do it. */
async function fillFrom(path: string, { file, source, guard, signal }: Filling): Promise<boolean> {
  const from = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const sha256 = await copyHashed({ source: from.fd, bytes: source.bytes, file, guard, signal });
    if (sha256 !== null) checkSha256(source, sha256);
    return sha256 !== null;
  } finally {
    await from.close();
  }
}

async function* inPieces(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes < PIECE_BYTES) continue;
    yield Buffer.concat(parts);
    [parts, bytes] = [[], 0];
  }
  if (bytes > 0) yield Buffer.concat(parts);
}

async function wholeBlob(root: string, sha256: string, bytes: number): Promise<Buffer | null> {
  checkDigest(sha256);
  const found = await orNull(root, () => readWhole(join(root, blobKey(sha256)), bytes));
  if (found === null) throw new BuilderError('not-found', `expected a known blob, got ${sha256}`);
  return found.content;
}

async function readRange(file: FileHandle, range: ByteRange | undefined): Promise<Readable> {
  try {
    if (range === undefined) return file.createReadStream({ highWaterMark: READ_BYTES });
    const { size } = await file.stat();
    if (range.start >= size || range.end < range.start) {
      throw new BuilderError('range-not-satisfiable', `expected a range within ${size} bytes, got ${range.start}-${range.end}`);
    }
    return file.createReadStream({ start: range.start, end: Math.min(range.end, size - 1), highWaterMark: READ_BYTES });
  } catch (cause) {
    await file.close();
    throw cause;
  }
}

async function filesBelow(root: string, folder: string): Promise<string[]> {
  const entries = await orNull(root, () => readdir(join(root, folder), { withFileTypes: true, recursive: true }));
  return (entries ?? []).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
}

/**
 * A file that is not there is an answer, not a fault; but where the store's own folder is not there either (a disk that is not
 * mounted), nothing is known of the file. It is looked for once more, since the store may have come back just now.
 */
async function orNull<T>(root: string, look: () => Promise<T>): Promise<T | null> {
  try {
    return await look();
  } catch (cause) {
    if (!isMissing(cause)) throw cause;
    await stat(join(root, INCOMING));
  }
  try {
    return await look();
  } catch (cause) {
    if (isMissing(cause)) return null;
    throw cause;
  }
}

function isMissing(cause: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(codeOf(cause));
}
