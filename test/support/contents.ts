/** Contents for stores: made as streams, so that a test holds none of it whole. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { BlobSource } from '../../src/artifacts/store.ts';

export function sha256Of(content: Buffer | string): string {
  return createHash('sha256').update(content).digest('hex');
}

export function sourceOf(content: Buffer | string): BlobSource {
  const buffer = Buffer.from(content);
  return { sha256: sha256Of(buffer), bytes: buffer.length, open: () => Readable.from(buffer.length === 0 ? [] : [buffer]) };
}

/** The same where all of it is in memory. */
export function inMemory(content: string): BlobSource {
  return { ...sourceOf(content), content: Buffer.from(content) };
}

/** The same in a file, which may hold other content than is declared. */
export async function inFile(path: string, declared: BlobSource, held: BlobSource = declared): Promise<BlobSource> {
  await pipeline(held.open(), createWriteStream(path));
  return { ...declared, path, open: () => createReadStream(path) };
}

export interface LargeSource extends BlobSource {
  /** The same content up to a byte, then whatever `end` does; undefined just ends. */
  upTo(bytes: number, end?: () => void): BlobSource;
}

/** Content in pieces of 64 KiB, all equal but for the number that begins each; `repeating` content has no numbers. */
export function largeSource(bytes: number, { repeating = false, seed = '' } = {}): LargeSource {
  const block = Buffer.alloc(64 * 1024, `builder ${seed}`);
  const pieces = function* (limit: number, end?: () => void): Generator<Buffer> {
    for (let at = 0; at < limit; at += block.length) {
      if (!repeating) block.writeUInt32BE(at / block.length);
      yield Buffer.from(block.subarray(0, Math.min(block.length, limit - at)));
    }
    end?.();
  };
  const hash = createHash('sha256');
  for (const piece of pieces(bytes)) hash.update(piece);
  const sha256 = hash.digest('hex');
  const upTo = (limit: number, end?: () => void): BlobSource => ({ sha256, bytes, open: () => Readable.from(pieces(limit, end)) });
  return { ...upTo(bytes), upTo };
}

/** Bytes and digest of a stream. */
export async function digestOf(stream: Readable): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest('hex') };
}
