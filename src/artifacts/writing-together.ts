/** Small files on their way to the disk together: what comes while others are written is written next, by one thread at one go. */
import { dirname } from 'node:path';
import type { DurableFolders } from './durable-folders.ts';
import { fileThreads, type WriteRequest } from './file-threads.ts';

export interface SmallFile {
  temporary: string;
  target: string;
  content: Buffer;
  /** Whether its own name is to be durable; those of its folders are. */
  withName: boolean;
}

/** Each is open until it is synced. */
const FILES_AT_ONCE = 32;

/** Resolves with false where it was not done, or not all of it: whoever asked does it then, and learns why not. */
export function createWritingTogether(folders: DurableFolders): (file: SmallFile) => Promise<boolean> {
  const waiting: { request: WriteRequest; resolve(written: boolean): void }[] = [];
  let isWriting = false;
  const writeAll = async (): Promise<void> => {
    isWriting = true;
    while (waiting.length > 0) {
      const together = waiting.splice(0, FILES_AT_ONCE);
      const written = await fileThreads.write(together.map(({ request }) => request)).catch(() => null);
      for (const [index, { resolve }] of together.entries()) resolve(written?.[index] === true);
    }
    isWriting = false;
  };
  return async ({ temporary, target, content, withName }) => {
    const folder = dirname(target);
    const { unknown, above } = folders.unknown(folder);
    const sync = [...unknown.map((one) => dirname(one)), ...(withName ? [folder] : [])];
    const request = { temporary, target, make: unknown, sync, content: new Uint8Array(content) };
    const writing = new Promise<boolean>((resolve) => waiting.push({ request, resolve }));
    if (!isWriting) void writeAll();
    const [written, isDurable] = await Promise.all([writing, above]);
    // Somebody may have taken away, meanwhile, what was known when it was asked for.
    const isKnown = folders.unknown(folder).unknown.every((one) => unknown.includes(one));
    if (!written || !isDurable || !isKnown) return false;
    folders.know(unknown);
    return true;
  };
}
