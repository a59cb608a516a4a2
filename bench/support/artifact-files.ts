/** What a script might leave behind: one large file, or a great many small ones, of bytes that do not compress and occur once. */
import { createHash, randomFillSync } from 'node:crypto';
import { closeSync, createReadStream, fsyncSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

const MIB = 1024 * 1024;

export interface LeftFile {
  /** Within its folder. */
  path: string;
  bytes: number;
  sha256: string;
}

export interface LeftFiles {
  folder: string;
  files: LeftFile[];
  bytes: number;
}

/** Durable when it returns, so that no measured round pays for writing them. */
export function leaveFiles(folder: string, { count, bytes }: { count: number; bytes: number }): LeftFiles {
  mkdirSync(folder, { recursive: true });
  const files = Array.from({ length: count }, (_, index) => {
    const path = `file-${String(index).padStart(5, '0')}`;
    return { path, bytes, sha256: leaveFile(join(folder, path), bytes) };
  });
  return { folder, files, bytes: count * bytes };
}

function leaveFile(path: string, bytes: number): string {
  const hash = createHash('sha256');
  const room = Buffer.allocUnsafe(Math.min(bytes, 4 * MIB));
  const file = openSync(path, 'wx');
  for (let left = bytes; left > 0; left -= room.length) {
    const piece = randomFillSync(room).subarray(0, left);
    hash.update(piece);
    writeSync(file, piece);
  }
  fsyncSync(file);
  closeSync(file);
  return hash.digest('hex');
}

/** As fast as this process can read and hash it. */
export async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: MIB }), hash);
  return hash.digest('hex');
}
