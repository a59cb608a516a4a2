/** How much room a run's folders take on the disk, looked at again and again without pressing the disk or the worker. */
import { lstat } from 'node:fs/promises';
import { limits } from '../../src/job/limits.ts';
import { pause } from '../../src/service/lifecycle.ts';
import { batchesOf, pathIn } from '../folder-batches.ts';

/** What st_blocks counts in, whatever the file system. */
const BLOCK_BYTES = 512;

/** Calls `onOver` once when the folders hold more than `bytes`; ends then, or when the signal is aborted. */
export async function watchDisk(o: { folders: string[]; bytes: number; onOver(): void; signal: AbortSignal }): Promise<void> {
  while (!o.signal.aborted) {
    const begunAtMs = performance.now();
    if ((await diskUsage(o.folders, o.bytes, o.signal)) > o.bytes) return o.onOver();
    await pause(Math.max(limits.diskPollMs, (performance.now() - begunAtMs) * limits.diskPollPart), o.signal);
  }
}

/** Bytes of blocks, files of several names once. Stops counting beyond `enoughBytes`. What cannot be read is not counted. */
export async function diskUsage(roots: readonly string[], enoughBytes: number, signal: AbortSignal): Promise<number> {
  const folders = roots.map((root) => Buffer.from(root));
  const linked = new Set<string>();
  let bytes = 0;
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    try {
      for await (const entries of batchesOf(folder)) {
        const found = await Promise.all(entries.map((entry) => usageOf(pathIn(folder, entry), linked)));
        bytes += found.reduce((sum, one) => sum + one, 0);
        for (const entry of entries) if (entry.isDirectory()) folders.push(pathIn(folder, entry));
        if (bytes > enoughBytes || signal.aborted) return bytes;
      }
    } catch {
      // Removed meanwhile, or closed by the script.
    }
  }
  return bytes;
}

async function usageOf(path: Buffer, linked: Set<string>): Promise<number> {
  try {
    const found = await lstat(path);
    if (found.nlink > 1 && found.isFile()) {
      const file = `${found.dev}:${found.ino}`;
      if (linked.has(file)) return 0;
      linked.add(file);
    }
    return found.blocks * BLOCK_BYTES;
  } catch {
    return 0;
  }
}
