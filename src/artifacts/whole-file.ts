/** A small file read at one go. */
import fs from 'node:fs';
import { promisify } from 'node:util';

/** For what is asked of each of thousands of files: node:fs/promises and a stream take the processor five times as long. */
const [open, read, close] = [promisify(fs.open), promisify(fs.read), promisify(fs.close)];

/** `content` is null where the file is longer or shorter. Throws the system's errors. */
export async function readWhole(path: string, bytes: number): Promise<{ content: Buffer | null }> {
  const file = await open(path, 'r');
  try {
    // Room for one byte more tells a longer file.
    const room = Buffer.allocUnsafeSlow(bytes + 1);
    const { bytesRead } = await read(file, room, 0, room.length, 0);
    return { content: bytesRead === bytes ? room.subarray(0, bytes) : null };
  } finally {
    await close(file);
  }
}
