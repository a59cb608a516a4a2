/** Writing a large file piece by piece: one is written while the next is read and hashed. */
import type { FileHandle } from 'node:fs/promises';
import { writeWhole } from './durable-files.ts';

/** Large enough that the system's calls cost little, small enough for memory. */
export const PIECE_BYTES = 1024 * 1024;
/** Written to the disk while what follows is still read and hashed, so that little is left to wait for at the end. */
const SYNC_BYTES = 32 * 1024 * 1024;

interface PieceWriter {
  /** Resolves when the piece before is written: until the next call resolves, this one must stay as it is. */
  write(piece: Buffer): Promise<void>;
  /** Resolves when all is written; rejects with the first failure. A failure of an early sync is told by no later one: it counts as the write's. */
  end(): Promise<void>;
  /** Resolves once nothing is being written any more, whatever came of it. */
  idle(): Promise<void>;
}

/** Writes all of them. Faults of the file come through `guard`, those of the pieces as they are. */
export async function writePieces(
  file: FileHandle,
  pieces: AsyncIterable<Buffer>,
  guard: <T>(work: Promise<T>) => Promise<T>,
): Promise<void> {
  const writer = createPieceWriter(file);
  try {
    for await (const piece of pieces) await guard(writer.write(piece));
    await guard(writer.end());
  } finally {
    // The file is closed next: nothing may still be writing to it.
    await writer.idle();
  }
}

function createPieceWriter(file: FileHandle): PieceWriter {
  let writing: Promise<void> = Promise.resolve();
  let syncing: Promise<void> = Promise.resolve();
  let unsyncedBytes = 0;
  const syncEarly = async (): Promise<void> => {
    if (unsyncedBytes < SYNC_BYTES) return;
    unsyncedBytes = 0;
    await syncing;
    syncing = file.datasync();
    syncing.catch(() => undefined);
  };
  return {
    write: async (piece) => {
      await writing;
      await syncEarly();
      unsyncedBytes += piece.length;
      writing = writeWhole(file, piece);
      // Awaited at the next one; until then a failure must not count as unhandled.
      writing.catch(() => undefined);
    },
    end: async () => {
      await Promise.all([writing, syncing]);
    },
    idle: async () => {
      await Promise.allSettled([writing, syncing]);
    },
  };
}
