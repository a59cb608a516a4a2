/** Reading a log from any line, live or archived, and following it to its end. */
import type { Store } from '../artifacts/store.ts';
import { limits } from '../job/limits.ts';
import type { LogEnd } from '../job/log-entry.ts';
import type { RunResult } from '../job/run.ts';
import type { Redis } from '../redis/connection.ts';
import { nextArchivedLine, readArchived } from './archive.ts';
import { type LogChunk, type LogId, linesFrom, readChunks, readNextChunks } from './stream.ts';
import type { Follower, WakeUps } from './wake-ups.ts';

/** Still open; ended without a result, so that another attempt follows; or ended with the run's result. */
export type AttemptState = 'open' | 'ended' | RunResult;

export interface LogSource {
  redis: Redis;
  store: Store;
  wakeUps: WakeUps;
  /** Asks over the connection `redis`, at once. */
  endOf: (log: LogId) => Promise<AttemptState>;
}

export interface ReadOptions {
  log: LogId;
  /** First line wanted, from 1. */
  from: number;
  follow: boolean;
  signal: AbortSignal;
  /** Told true when all there is has been given and more is waited for, false when it is looked for again. */
  onQuiet?: (isQuiet: boolean) => void;
}

const CHUNKS_AT_ONCE = 8;

/**
 * Chunks of whole NDJSON lines (log-entry.ts), each ended by a newline; with `follow` until the attempt has ended. The last
 * object is the end record when the run has ended with this attempt. Lines that nobody has any more are one `gap`.
 */
export async function* readLog(source: LogSource, o: ReadOptions): AsyncGenerator<Buffer> {
  const follower = source.wakeUps.follow(o.log.run);
  let line = Math.max(1, o.from);
  try {
    while (!o.signal.aborted) {
      o.onQuiet?.(false);
      // The end is asked for before the lines: what is read after it is then the whole rest.
      const end = await source.endOf(o.log);
      for (let chunks = await readFrom(source, o.log, line, end); chunks.length > 0; chunks = await readFrom(source, o.log, line, end)) {
        for (const chunk of chunks) {
          const part = typeof end === 'string' ? chunk : linesUpTo(chunk, end.log.lines);
          if (part.lines <= 0) break;
          yield linesFrom(part, line);
          line = part.firstLine + part.lines;
        }
        if (typeof end !== 'string' && line > end.log.lines) break;
        if (o.signal.aborted) return;
      }
      if (end !== 'open') {
        yield* closing(end, line);
        return;
      }
      if (!o.follow) return;
      o.onQuiet?.(true);
      for (
        let chunks = await newest(source, o, { follower, line });
        chunks.length > 0;
        chunks = await newest(source, o, { follower, line })
      ) {
        for (const chunk of chunks) {
          yield chunk.ndjson;
          line = chunk.firstLine + chunk.lines;
        }
        if (o.signal.aborted) return;
      }
    }
  } finally {
    follower.close();
  }
}

/**
 * What the next wake-up is about, mostly: further lines of an attempt that is open still. Empty where it may be anything else. Both
 * questions go at once, and Redis answers them in their order: a log whose end is known has been read before it ended.
 */
async function newest(source: LogSource, o: ReadOptions, at: { follower: Follower; line: number }): Promise<LogChunk[]> {
  await at.follower.wait(limits.followPollMs, o.signal);
  if (o.signal.aborted) return [];
  const [end, chunks] = await Promise.all([source.endOf(o.log), readNextChunks(source.redis, o.log, at.line, CHUNKS_AT_ONCE)]);
  if (end !== 'open') return [];
  // There may be more at once.
  if (chunks.length === CHUNKS_AT_ONCE) at.follower.again();
  return chunks;
}

async function readFrom(source: LogSource, log: LogId, line: number, end: AttemptState): Promise<LogChunk[]> {
  const live = await readChunks(source.redis, log, line, CHUNKS_AT_ONCE);
  if (live.kind === 'chunks') return live.chunks;
  // While an attempt is open its stream keeps the newest lines. Later the archive alone may have them: of a worker that died while
  // Redis was away.
  if (end === 'open' && live.kind !== 'trimmed') return [];
  const archived = await readArchived(source.store, log, line);
  if (archived !== null) return [archived];
  const next = await nextArchivedLine(source.store, log, line);
  return next === null ? [] : [gap(line, next - 1)];
}

/** A worker that was taken for dead may have written on behind the end that counts. */
function linesUpTo(chunk: LogChunk, last: number): LogChunk {
  const lines = Math.min(chunk.lines, last - chunk.firstLine + 1);
  if (lines === chunk.lines || lines <= 0) return { ...chunk, lines };
  const rest = linesFrom(chunk, last + 1);
  return { ...chunk, lines, ndjson: chunk.ndjson.subarray(0, chunk.ndjson.length - rest.length) };
}

/** What is left to say when no more lines come: a gap up to the line that the result knows of, and the end record. */
function* closing(end: 'ended' | RunResult, line: number): Generator<Buffer> {
  if (end === 'ended') return;
  if (line <= end.log.lines) yield gap(line, end.log.lines).ndjson;
  const record: LogEnd = { end: { lines: end.log.lines, bytes: end.log.bytes, sha256: end.log.sha256, outcome: end.outcome } };
  yield Buffer.from(`${JSON.stringify(record)}\n`);
}

function gap(from: number, to: number): LogChunk {
  const entry = { gap: { from, to, reason: 'lost: neither Redis nor the store has these lines' } };
  return { firstLine: from, lines: to - from + 1, ndjson: Buffer.from(`${JSON.stringify(entry)}\n`) };
}
