/**
 * Storing a large file while its digest is found: for content that the store does not have, one pass in the place of two. Content that it
 * has would be written for nothing, so a file as long as one that came before is looked at first.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { limits } from '../job/limits.ts';
import { hashedPieces } from './checked-content.ts';
import { PIECE_BYTES, writePieces } from './piece-writer.ts';

/** The lengths of the large blobs that came, as far as they are remembered. */
export interface KnownLengths {
  add(bytes: number): void;
  has(bytes: number): boolean;
}

export function createKnownLengths(): KnownLengths {
  /** The oldest first. */
  const lengths = new Set<number>();
  return {
    has: (bytes) => lengths.has(bytes),
    add: (bytes) => {
      if (bytes < limits.onePassBytesMin) return;
      lengths.delete(bytes);
      lengths.add(bytes);
      for (const oldest of lengths) if (lengths.size > limits.onePassLengthsMax) lengths.delete(oldest);
    },
  };
}

export interface Copying {
  /** Open for reading. */
  source: number;
  bytes: number;
  file: FileHandle;
  /** Tells the faults of writing apart from those of the source. */
  guard: <T>(work: Promise<T>) => Promise<T>;
  signal: AbortSignal | undefined;
}

/** The digest of what is in `file` then. Throws ContentMismatch where the source is not as long as it was. */
export async function copyHashed({ source, bytes, file, guard, signal }: Copying): Promise<string> {
  const hash = createHash('sha256');
  await writePieces(file, hashedPieces(source, { pieceBytes: PIECE_BYTES, bytes, hash, signal }), guard);
  return hash.digest('hex');
}
