/** The store: blobs by SHA-256 and small documents by key. One interface; a local folder and S3 behind it, equal to one contract suite. */
import type { Readable } from 'node:stream';

export interface BlobSource {
  sha256: string;
  bytes: number;
  /** Opens the content anew; called once per try. The store hashes what it reads and refuses anything but `sha256`. */
  open: () => Readable;
  /** All of it, where it is in memory anyway: it is taken in place of what `open` would give, and checked as well. */
  content?: Buffer;
  /** A regular file that has it, where there is one: it may be read in the place of what `open` would give. No link is followed. */
  path?: string;
}

export interface ByteRange {
  /** First byte, from 0. */
  start: number;
  /** Last byte, inclusive. */
  end: number;
}

export interface StoredFile {
  sha256: string;
  bytes: number;
  /** Its permissions. */
  mode: number;
}

export interface BlobBatch {
  /** As the store's own, but for this: it is durable once `settle` has resolved that was called afterwards. */
  putBlob(source: BlobSource, signal?: AbortSignal): Promise<'stored' | 'known'>;
  /**
   * Stores an open regular file of so many bytes and finds its digest in one pass, where that is likely to be the shorter way; null where
   * it is not, and then nothing has been done. Throws as `putBlob` does; ContentMismatch where the file is not as long any more.
   */
  putFile?(file: number, bytes: number, signal?: AbortSignal): Promise<{ sha256: string } | null>;
  /**
   * Stores small regular files by their paths, where that is the shorter way for many; one answer for each: null for what is not as usual,
   * and of which nothing can be told then. No link is followed. Throws the signal's reason, and BuilderError as `putBlob` does.
   */
  putFiles?(paths: readonly string[], signal?: AbortSignal): Promise<(StoredFile | null)[]>;
  /** Throws BuilderError as `putBlob` does. */
  settle(): Promise<void>;
}

export interface Store {
  /** Bytes of a blob, or null where it is unknown. */
  statBlob(sha256: string): Promise<number | null>;
  /**
   * Stores a blob unless it is known; resolves once it is whole and durable. Until then nothing is visible under the
   * digest, and nothing stays behind after a failure. Throws ContentMismatch where the content is not as declared (a file that
   * changed), what the source itself throws unchanged, the signal's reason once it is aborted, and BuilderError
   * `store-unavailable` or `store-full` otherwise.
   */
  putBlob(source: BlobSource, signal?: AbortSignal): Promise<'stored' | 'known'>;
  /** For many blobs of which nothing is told before all are stored: they are durable together, which costs less. */
  openBatch(): BlobBatch;
  /** Opens a blob for reading; throws BuilderError `not-found` or `range-not-satisfiable`. The reader checks the digest where it matters. */
  getBlob(sha256: string, range?: ByteRange): Promise<Readable>;
  /**
   * All of a blob of at most limits.wholeFileBytesMax, where that is the shorter way to it; null where it has not exactly so many bytes.
   * Throws as `getBlob` does.
   */
  getWholeBlob?(sha256: string, bytes: number): Promise<Buffer | null>;
  /**
   * Writes a small document (a manifest, a piece of log) at a key such as `runs/<run>/…`; replaces a former one atomically.
   * No key may go on below another (`a/b` and `a/b/c`).
   */
  putDocument(key: string, content: Buffer): Promise<void>;
  getDocument(key: string): Promise<Buffer | null>;
  /** Keys of documents that begin with a prefix, in ascending order of bytes. */
  listDocuments(prefix: string): Promise<string[]>;
  removeDocument(key: string): Promise<void>;
  /** Resolves when the store can be read and written now; else throws BuilderError `store-unavailable`. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/** The content that a source gave is not the content that it declared. */
export class ContentMismatch extends Error {
  override name = 'ContentMismatch';
}

export const BLOB_FOLDER = 'blobs/sha256';
/** In it, by how their digests begin. */
export const BLOB_FOLDERS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function blobKey(sha256: string): string {
  return `${BLOB_FOLDER}/${sha256.slice(0, 2)}/${sha256}`;
}
