/** What a folder holds, some entries at a time: one of a million files is never in memory as a whole. */
import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { limits } from '../src/job/limits.ts';

/** Throws the system's errors. */
export async function* batchesOf(folder: Buffer): AsyncGenerator<Dirent[]> {
  let batch: Dirent[] = [];
  for await (const entry of await opendir(folder, { bufferSize: limits.diskWalkAtOnce, encoding: 'latin1' })) {
    batch.push(entry);
    if (batch.length < limits.diskWalkAtOnce) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** Names are bytes; latin1 holds any. */
export function pathIn(folder: Buffer, entry: Dirent): Buffer<ArrayBuffer> {
  return Buffer.concat([folder, Buffer.from('/'), Buffer.from(entry.name, 'latin1')]);
}
