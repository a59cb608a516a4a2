/** The end of a log whose writer is gone: what Redis alone has goes to the archive, and the whole gets its digest. */
import { createHash } from 'node:crypto';
import type { Store } from '../artifacts/store.ts';
import type { LogDigest } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import { parseLogEntry, textOf } from '../job/log-entry.ts';
import type { Redis } from '../redis/connection.ts';
import { archiveChunk, nextArchivedLine, readArchived } from './archive.ts';
import { chunkFrom, expireStream, type LogChunk, type LogId, readChunks } from './stream.ts';

const CHUNKS_AT_ONCE = 8;

/** Lines that neither Redis nor the store has count as `missing`. The same call again changes nothing. */
export async function sealLog(redis: Redis, store: Store, log: LogId): Promise<LogDigest> {
  const hash = createHash('sha256');
  const digest = { lines: 0, bytes: 0, truncated: false, missing: 0 };
  const piece = createPiece(store, log);
  for (let line = 1; ; ) {
    const found = await nextPart(redis, store, log, line);
    if (found === null) break;
    digest.missing += found.chunk.firstLine - line;
    for (const json of found.chunk.ndjson.toString().split('\n')) {
      if (json === '') continue;
      const entry = parseLogEntry(json);
      digest.truncated ||= 'cut' in entry;
      if (!('line' in entry)) continue;
      const text = textOf(entry);
      hash.update(text);
      digest.bytes += Buffer.byteLength(text);
    }
    line = found.chunk.firstLine + found.chunk.lines;
    digest.lines = line - 1;
    await (found.archived ? piece.flush() : piece.add(found.chunk));
  }
  await piece.flush();
  await expireStream(redis, log);
  return { ...digest, sha256: hash.digest('hex') };
}

/** What there is from a line on: of the archive, else of Redis, else what the archive has later; null at the end. */
async function nextPart(redis: Redis, store: Store, log: LogId, line: number): Promise<{ chunk: LogChunk; archived: boolean } | null> {
  const archived = await readArchived(store, log, line);
  if (archived !== null) return { chunk: chunkFrom(archived, line), archived: true };
  const live = await readChunks(redis, log, line, CHUNKS_AT_ONCE);
  if (live.kind === 'chunks') return { chunk: chunkFrom(joined(live.chunks), line), archived: false };
  const next = live.kind === 'not-yet' ? null : await nextArchivedLine(store, log, line);
  return next === null ? null : nextPart(redis, store, log, next);
}

function joined(chunks: LogChunk[]): LogChunk {
  const lines = chunks.reduce((sum, chunk) => sum + chunk.lines, 0);
  return { firstLine: chunks[0]?.firstLine ?? 1, lines, ndjson: Buffer.concat(chunks.map(({ ndjson }) => ndjson)) };
}

/** Chunks are archived in pieces of a useful size. */
function createPiece(store: Store, log: LogId): { add(chunk: LogChunk): Promise<void>; flush(): Promise<void> } {
  let waiting: LogChunk[] = [];
  const flush = async (): Promise<void> => {
    if (waiting.length > 0) await archiveChunk(store, log, joined(waiting));
    waiting = [];
  };
  return {
    flush,
    add: async (chunk) => {
      waiting.push(chunk);
      if (waiting.reduce((sum, { ndjson }) => sum + ndjson.length, 0) >= limits.logSegmentBytes) await flush();
    },
  };
}
