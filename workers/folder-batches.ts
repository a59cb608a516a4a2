/** What a folder holds, some entries at a time: one of a million files is never in memory as a whole. */
import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { limits } from '../src/job/limits.ts';

/** Names are bytes: where a file system does not tell what an entry is, Node asks for it by a path of both. Throws the system's errors. */
export async function* batchesOf(folder: Buffer): AsyncGenerator<Dirent<Buffer>[]> {
  let batch: Dirent<Buffer>[] = [];
  for await (const entry of await opendir(folder, { bufferSize: limits.diskWalkAtOnce, encoding: 'buffer' as BufferEncoding })) {
    batch.push(entry as unknown as Dirent<Buffer>);
    if (batch.length < limits.diskWalkAtOnce) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

export function pathIn(folder: Buffer, entry: Dirent<Buffer>): Buffer<ArrayBuffer> {
  return Buffer.concat([folder, Buffer.from('/'), entry.name]);
}
