/**
 * Storing a large file while its digest is found: for content that the store does not have, one pass in the place of two. Content that it
 * has would be written for nothing, so a file as long as one that came before is looked at first.
 */
import type { FileHandle } from 'node:fs/promises';
import { limits } from '../job/limits.ts';
import { fileThreads } from './file-threads.ts';
import { ContentMismatch } from './store.ts';

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

/**
 * The digest of what is in `file` then, or null, and nothing is in it, where there is no thread to do it. Throws ContentMismatch where the
 * source is not as long as it was.
 */
export async function copyHashed({ source, bytes, file, guard, signal }: Copying): Promise<string | null> {
  const told = await fileThreads.copy({ source, target: file.fd, bytes }, signal);
  if (told === null) {
    await guard(file.truncate());
    return null;
  }
  if ('failed' in told) {
    const cause = Object.assign(new Error(told.message), { code: told.code });
    return told.failed === 'target' ? guard(Promise.reject(cause)) : Promise.reject(cause);
  }
  if (told.copied !== bytes) throw new ContentMismatch(`expected ${bytes} bytes, got ${told.copied > bytes ? 'more' : told.copied}`);
  return told.sha256;
}
