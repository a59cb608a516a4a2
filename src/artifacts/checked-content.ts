/** The content of a source, checked while it is read: whoever reads it to its end has exactly what was declared. */
import { createHash, hash as digestOf } from 'node:crypto';
import { addAbortSignal } from 'node:stream';
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

/** Throws ContentMismatch where it is another. */
export function checkSha256({ sha256: expected }: BlobSource, sha256: string): void {
  if (sha256 !== expected) throw new ContentMismatch(`expected content with SHA-256 ${expected}, got ${sha256}`);
}

function check(source: BlobSource, bytes: number, sha256: string): void {
  if (bytes !== source.bytes) throw new ContentMismatch(`expected ${source.bytes} bytes, got ${bytes}`);
  checkSha256(source, sha256);
}
