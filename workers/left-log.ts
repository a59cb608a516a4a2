/** Giving the archive what only a dead worker's spool has of a log, in order and once. */
import type { Store } from '../src/artifacts/store.ts';
import { type LogLine, parseLogEntry } from '../src/job/log-entry.ts';
import { archiveChunk } from '../src/logs/archive.ts';
import { appendChunks, chunkFrom, type LogChunk, type LogId } from '../src/logs/stream.ts';
import type { Redis } from '../src/redis/connection.ts';
import { readLeftSpool } from './left-spool.ts';

export interface Giving {
  store: Store;
  log: LogId;
  /** The archive has the lines up to this one. */
  known: number;
  /** Tries again while the store is away. */
  wait: <T>(work: () => Promise<T>) => Promise<T>;
}

export interface SpoolEnd {
  /** The last line that it has; 0 for none. */
  line: number;
  atMs: number;
  /** What spoilt the rest of it. */
  fault: unknown;
}

export async function giveLines(o: Giving & { spoolPath: string }): Promise<SpoolEnd> {
  const end: SpoolEnd = { line: 0, atMs: 0, fault: null };
  const chunks = readLeftSpool(o.spoolPath);
  for (;;) {
    const next = await chunks.next().catch((cause) => {
      end.fault = cause;
      return null;
    });
    if (next === null || next.done) return end;
    const chunk = next.value;
    end.line = chunk.firstLine + chunk.lines - 1;
    end.atMs = timeOfLast(chunk) ?? end.atMs;
    if (end.line > o.known) await o.wait(() => archiveChunk(o.store, o.log, chunkFrom(chunk, o.known + 1)));
  }
}

/** Lines of builder's own behind all others, in Redis: who reads there finds that what lies between is in the archive. */
export async function giveNotes(o: Giving & { redis: Redis; end: SpoolEnd; notes: string[] }): Promise<void> {
  const firstLine = Math.max(o.known, o.end.line) + 1;
  const texts = o.notes.map((note) => `builder: ${note.replaceAll('\n', '\\n')}`);
  const lines = texts.map((text, index): LogLine => ({ line: firstLine + index, atMs: o.end.atMs, source: 'builder', text }));
  const ndjson = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  await o.wait(() => appendChunks(o.redis, o.log, [{ firstLine, lines: lines.length, ndjson }], firstLine));
}

function timeOfLast({ ndjson }: LogChunk): number | null {
  const start = ndjson.lastIndexOf('\n', ndjson.length - 2) + 1;
  const entry = parseLogEntry(ndjson.toString('utf8', start));
  return 'line' in entry ? entry.atMs : null;
}
