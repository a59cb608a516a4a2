/** The store in a local folder: the embedded default of one machine. */
import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { BuilderError, oneLine } from '../service/errors.ts';
import { checkedContent, contentInMemory } from './checked-content.ts';
import { codeOf, type DurableFiles, guarded, INCOMING, openDurableFiles, type Unsettled, writeWhole } from './durable-files.ts';
import { checkDigest, checkDocumentKey, checkDocumentPrefix, inByteOrder } from './keys.ts';
import { type BlobSource, type ByteRange, blobKey, type Store } from './store.ts';

/** Large enough that the system's calls cost little, small enough for memory. */
const WRITE_BYTES = 1024 * 1024;
/** Written to the disk while what follows is still read and hashed, so that little is left to wait for at the end. */
const SYNC_BYTES = 32 * 1024 * 1024;
const READ_BYTES = 256 * 1024;

/** Makes the folder where it is missing; throws `bad-config` where it cannot be written, `store-full` where it has no room. */
export async function openFolderStore(path: string): Promise<Store> {
  const root = resolve(path);
  const files = await openFiles(root);
  const guard = <T>(work: Promise<T>): Promise<T> => guarded(root, work);
  const statBlob = (sha256: string): Promise<number | null> => {
    checkDigest(sha256);
    return guard(orNull(root, async () => (await stat(join(root, blobKey(sha256)))).size));
  };
  const putBlob = async (source: BlobSource, signal?: AbortSignal, later?: Unsettled): Promise<'stored' | 'known'> => {
    const key = blobKey(source.sha256);
    // A file of another length is damage; writing it anew heals it.
    if ((await statBlob(source.sha256)) === source.bytes) {
      await files.confirm(key, later);
      return 'known';
    }
    signal?.throwIfAborted();
    await files.write(key, contentInMemory(source) ?? ((file) => fill({ file, source, guard, signal })), later);
    return 'stored';
  };
  return {
    statBlob: async (sha256) => statBlob(sha256),
    putBlob: async (source, signal) => putBlob(source, signal),
    openBatch: () => {
      let later: Unsettled = new Set();
      return {
        putBlob: async (source, signal) => putBlob(source, signal, later),
        settle: async () => {
          const settling = later;
          later = new Set();
          try {
            await files.settle(settling);
          } catch (cause) {
            // Not durable yet: they are to be settled still.
            for (const folder of settling) later.add(folder);
            throw cause;
          }
        },
      };
    },
    getBlob: async (sha256, range) => {
      checkDigest(sha256);
      const file = await guard(orNull(root, () => open(join(root, blobKey(sha256)), 'r')));
      if (file === null) throw new BuilderError('not-found', `expected a known blob, got ${sha256}`);
      return readRange(file, range);
    },
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
    return files;
  } catch (thrown) {
    const cause = thrown instanceof BuilderError ? thrown.cause : thrown;
    if (['ENOSPC', 'EDQUOT'].includes(codeOf(cause))) return guarded(root, Promise.reject(cause));
    throw new BuilderError('bad-config', `expected a writable folder for the store, got ${root} (${oneLine(cause)})`, { cause });
  }
}

interface Filling {
  file: FileHandle;
  source: BlobSource;
  guard: <T>(work: Promise<T>) => Promise<T>;
  signal: AbortSignal | undefined;
}

/** Writes one piece while the next is read and hashed. A failure of an early sync is told by no later one: it counts as the write's. */
async function fill({ file, source, guard, signal }: Filling): Promise<void> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  let writing: Promise<void> = Promise.resolve();
  let unsyncedBytes = 0;
  let syncing: Promise<void> = Promise.resolve();
  const syncEarly = async (): Promise<void> => {
    if (unsyncedBytes < SYNC_BYTES) return;
    unsyncedBytes = 0;
    await guard(syncing);
    syncing = file.datasync();
    syncing.catch(() => undefined);
  };
  const flush = async (): Promise<void> => {
    await guard(writing);
    await syncEarly();
    unsyncedBytes += bytes;
    const [first] = pieces;
    writing = writeWhole(file, pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces));
    // Awaited at the next flush; until then a failure must not count as unhandled.
    writing.catch(() => undefined);
    pieces = [];
    bytes = 0;
  };
  try {
    for await (const chunk of checkedContent(source, signal)) {
      pieces.push(chunk);
      bytes += chunk.length;
      if (bytes >= WRITE_BYTES) await flush();
    }
    if (bytes > 0) await flush();
    await guard(Promise.all([writing, syncing]));
  } finally {
    // The file is closed next: nothing may still be writing to it.
    await Promise.allSettled([writing, syncing]);
  }
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
