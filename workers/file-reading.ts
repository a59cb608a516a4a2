/** Reading a file that a script left: its digest in one pass, and its content with it where that is small. */
import { createHash, hash as digestOf, type Hash } from 'node:crypto';
import { close, closeSync, constants, fstatSync, openSync, read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import type { BlobBatch } from '../src/artifacts/store.ts';
import { limits } from '../src/job/limits.ts';

export interface ReadFile {
  bytes: number;
  mode: number;
  sha256: string;
  /** All of it, of a file of at most limits.wholeFileBytesMax. */
  content: Buffer | null;
  /** It was stored on the way. */
  stored: boolean;
}

const READ_BYTES = 1024 * 1024;
const readPiece = promisify(read);
const closeFile = promisify(close);

/**
 * Links and what is no regular file are refused by the system, or here. At once for a small file, which was just written and costs
 * less than the ways through the thread pool would; a large one is read while what came before is hashed, unless `put` stores it. Throws
 * the system's errors, the signal's reason, and what `put` throws.
 */
export async function readLeftFile(path: string, signal: AbortSignal, put?: BlobBatch['putFile']): Promise<ReadFile> {
  signal.throwIfAborted();
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  let large = false;
  try {
    const found = fstatSync(file);
    if (!found.isFile()) throw new Error('not a regular file any more');
    const mode = found.mode & 0o777;
    large = found.size > limits.wholeFileBytesMax;
    const content = large ? null : readWhole(file, found.size);
    if (content !== null) return { bytes: content.length, mode, sha256: digestOf('sha256', content), content, stored: false };
    large = true;
    const stored = await put?.(file, found.size, signal);
    if (stored != null) return { bytes: found.size, mode, ...stored, content: null, stored: true };
    const hash = createHash('sha256');
    return { bytes: await hashAll(file, hash, signal), mode, sha256: hash.digest('hex'), content: null, stored: false };
  } finally {
    if (large) await closeFile(file);
    else closeSync(file);
  }
}

/** Null where it is longer than it said: there is room for a byte more, so that one read tells of most files that they end. */
function readWhole(file: number, size: number): Buffer | null {
  const room = Buffer.allocUnsafe(size + 1);
  let filled = 0;
  for (;;) {
    const bytesRead = readSync(file, room, filled, room.length - filled, filled);
    filled += bytesRead;
    if (filled > size) return null;
    // A read of a regular file is short at its end alone.
    if (bytesRead === 0 || filled === size) return room.subarray(0, filled);
  }
}

/** The number of bytes. One piece is read while the one before is hashed. */
async function hashAll(file: number, hash: Hash, signal: AbortSignal): Promise<number> {
  const rooms = [Buffer.allocUnsafe(READ_BYTES), Buffer.allocUnsafe(READ_BYTES)] as const;
  let bytes = 0;
  let [current, other] = rooms;
  let reading = readPiece(file, current, 0, READ_BYTES, 0);
  for (;;) {
    const { bytesRead } = await reading;
    if (bytesRead === 0) return bytes;
    bytes += bytesRead;
    signal.throwIfAborted();
    reading = readPiece(file, other, 0, READ_BYTES, bytes);
    hash.update(current.subarray(0, bytesRead));
    [current, other] = [other, current];
  }
}
