/** The content of a source, checked while it is read: whoever reads it to its end has exactly what was declared. */
import { createHash, hash as digestOf, type Hash } from 'node:crypto';
import { close, constants, open, read } from 'node:fs';
import { addAbortSignal } from 'node:stream';
import { promisify } from 'node:util';
import { type BlobSource, ContentMismatch } from './store.ts';

/**
 * Yields the source's bytes. Throws ContentMismatch at the first byte too many or, at the end, where bytes or digest
 * differ; throws what the source throws unchanged, and the signal's reason once it is aborted.
 */
export async function* checkedContent(source: BlobSource, signal?: AbortSignal): AsyncGenerator<Buffer, void> {
  signal?.throwIfAborted();
  const stream = source.open();
  // A source may fail before it is read or after it was given up; without a listener Node would end the program.
  stream.on('error', () => undefined);
  if (signal !== undefined) addAbortSignal(signal, stream);
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > source.bytes) throw new ContentMismatch(`expected ${source.bytes} bytes, got more`);
      hash.update(chunk);
      yield chunk;
    }
  } catch (cause) {
    signal?.throwIfAborted();
    throw cause;
  } finally {
    stream.destroy();
  }
  signal?.throwIfAborted();
  check(source, bytes, hash.digest('hex'));
}

/** The content of a source that has it in memory, checked in the same way; null for one that must be read. */
export function contentInMemory(source: BlobSource): Buffer | null {
  const { content } = source;
  if (content === undefined) return null;
  check(source, content.length, digestOf('sha256', content));
  return content;
}

const openFile = promisify(open);
const readPiece = promisify(read);
const closeFile = promisify(close);

/**
 * The content of the file at `path`, checked in the same way, in pieces of at most `pieceBytes` that share three rooms: a piece is overwritten when the
 * one after the next is asked for. One is read while the one before is worked on. Memory that is used again costs no page faults.
 */
export async function* checkedFile(
  source: BlobSource,
  path: string,
  pieceBytes: number,
  signal?: AbortSignal,
): AsyncGenerator<Buffer, void> {
  signal?.throwIfAborted();
  const file = await openFile(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const hash = createHash('sha256');
    yield* hashedPieces(file, { pieceBytes, bytes: source.bytes, hash, signal });
    check(source, source.bytes, hash.digest('hex'));
  } finally {
    await closeFile(file);
  }
}

export interface Pieces {
  /** Of each piece, at most. */
  pieceBytes: number;
  /** Of the whole file; ContentMismatch at the first byte more, or at its end where that comes sooner. */
  bytes: number;
  /** Has taken all of it once the last piece was given. */
  hash: Hash;
  signal: AbortSignal | undefined;
}

/** The content of an open file as checkedFile gives it, but for its digest; nothing is being read any more at the end. */
export async function* hashedPieces(file: number, { pieceBytes, bytes, hash, signal }: Pieces): AsyncGenerator<Buffer, void> {
  signal?.throwIfAborted();
  const rooms = Array.from({ length: 3 }, () => Buffer.allocUnsafeSlow(pieceBytes));
  const readInto = (number: number, from: number): Promise<Buffer> => {
    const room = rooms[number % rooms.length] as Buffer;
    const reading = readPiece(file, room, 0, room.length, from).then(({ bytesRead }) => room.subarray(0, bytesRead));
    reading.catch(() => undefined);
    return reading;
  };
  let offset = 0;
  let reading = readInto(0, 0);
  try {
    for (let number = 1; ; number += 1) {
      const piece = await reading;
      signal?.throwIfAborted();
      offset += piece.length;
      if (offset > bytes) throw new ContentMismatch(`expected ${bytes} bytes, got more`);
      if (piece.length === 0 && offset < bytes) throw new ContentMismatch(`expected ${bytes} bytes, got ${offset}`);
      if (piece.length === 0) return;
      reading = readInto(number, offset);
      hash.update(piece);
      yield piece;
    }
  } finally {
    // The number of a file that is closed may soon be another's.
    await reading.catch(() => undefined);
  }
}

function check(source: BlobSource, bytes: number, sha256: string): void {
  if (bytes !== source.bytes) throw new ContentMismatch(`expected ${source.bytes} bytes, got ${bytes}`);
  if (sha256 !== source.sha256) throw new ContentMismatch(`expected content with SHA-256 ${source.sha256}, got ${sha256}`);
}
