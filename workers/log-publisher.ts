/** Draining an attempt's spool: to Redis at once, to the archive piece by piece, whatever is away meanwhile. */
import type { Store } from '../src/artifacts/store.ts';
import { limits } from '../src/job/limits.ts';
import { archiveChunk } from '../src/logs/archive.ts';
import { appendChunk, expireStream, type LogId, lastLine, linesFrom, trimBefore } from '../src/logs/stream.ts';
import type { Redis } from '../src/redis/connection.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { aborted, pause } from '../src/service/lifecycle.ts';
import type { Logger } from '../src/service/logger.ts';
import type { Spool } from './log-spool.ts';

export interface PublisherOptions {
  redis: Redis;
  store: Store;
  spool: Spool;
  log: LogId;
  logger: Logger;
}

export interface Publisher {
  /** Resolves when everything that the spool holds is in Redis and in the archive; rejects when the signal is aborted first, or the spool is damaged. */
  finish(signal: AbortSignal): Promise<void>;
  /** Stops where it is. */
  stop(): Promise<void>;
}

/** How far a consumer of the spool has come: everything before is done. */
interface Position {
  offset: number;
  line: number;
}

/** `marks`: where each chunk began that is not archived, and the newest that is, in the order of their lines. */
interface Progress {
  published: Position;
  archived: Position;
  marks: Position[];
  /** Redis is another one, or the same after an outage: it must be asked how far it really has come. */
  doubtful: boolean;
  finishing: boolean;
  /** The spool cannot be read any more: no trying again helps. */
  damage: BuilderError | null;
}

/** Starts draining at once; the script is never held up by it. */
export function startPublisher(o: PublisherOptions): Publisher {
  const stopped = new AbortController();
  const finish = new AbortController();
  const progress: Progress = {
    published: { offset: 0, line: 1 },
    archived: { offset: 0, line: 1 },
    marks: [],
    doubtful: false,
    finishing: false,
    damage: null,
  };
  let back = new AbortController();
  // A script that is silent now may have said things that Redis has forgotten.
  const doubt = (): void => {
    progress.doubtful = true;
    back.abort();
  };
  o.redis.on('ready', doubt);
  // Once each: a promise per round would leave a listener per round.
  const ends = [aborted(finish.signal), aborted(stopped.signal)];
  let returned = aborted(back.signal);
  const loop = (async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      const growth = o.spool.grown();
      if (back.signal.aborted) {
        back = new AbortController();
        returned = aborted(back.signal);
      }
      const step = await drain(o, progress).catch((cause: unknown) => {
        if (cause instanceof BuilderError && cause.code === 'damaged') progress.damage = cause;
        o.logger.debug({ run: o.log.run, error: oneLine(cause) }, 'log not published; trying again');
        return 'fault' as const;
      });
      if (progress.damage !== null) return;
      if (step === 'fault') await pause(limits.faultPauseMs, stopped.signal);
      else if (step === 'idle' && progress.finishing) return;
      else if (step === 'idle') await Promise.race([growth, returned, ...ends]);
    }
  })().finally(() => o.redis.off('ready', doubt));
  return {
    finish: async (signal) => {
      if (stopped.signal.aborted) throw new Error('the log could not be stored in time');
      progress.finishing = true;
      finish.abort();
      await Promise.race([loop, aborted(signal)]);
      if (progress.damage !== null) throw progress.damage;
      // The archive has all of it: the stream ends by itself in any case, if later.
      if (!signal.aborted) return expireStream(o.redis, o.log).catch(() => undefined);
      stopped.abort();
      throw new Error('the log could not be stored in time');
    },
    stop: async () => {
      stopped.abort();
      await loop;
    },
  };
}

/** One step: the next chunk to Redis, or the next piece to the archive. `idle`: nothing to do until the spool grows. */
async function drain(o: PublisherOptions, progress: Progress): Promise<'busy' | 'idle'> {
  if (progress.doubtful) {
    const last = await lastLine(o.redis, o.log);
    progress.doubtful = false;
    if (last + 1 < progress.published.line) rewind(progress, last);
  }
  await publishChunk(o, progress);
  const whole = progress.published.offset >= o.spool.bytes;
  const waiting = progress.published.offset - progress.archived.offset;
  if (waiting < limits.logSegmentBytes && !(progress.finishing && whole && waiting > 0)) return whole ? 'idle' : 'busy';
  await archivePiece(o, progress, waiting);
  return 'busy';
}

async function publishChunk(o: PublisherOptions, progress: Progress): Promise<void> {
  const { published, archived, marks } = progress;
  if (published.offset >= o.spool.bytes) return;
  const read = await o.spool.readFrom(published.offset, limits.logEntryBytesMax);
  if (read.lines === 0) return;
  const chunk = { firstLine: published.line, lines: read.lines, ndjson: read.chunk };
  const last = await appendChunk(o.redis, o.log, { ...chunk, firstUnarchived: archived.line });
  if (last < chunk.firstLine) return rewind(progress, last);
  marks.push({ ...published });
  // A repeated append may have been a shorter one before.
  const next = Math.min(last + 1, chunk.firstLine + chunk.lines);
  published.offset += chunk.ndjson.length - linesFrom(chunk, next).length;
  published.line = next;
}

async function archivePiece(o: PublisherOptions, progress: Progress, waiting: number): Promise<void> {
  const { archived, published } = progress;
  const piece = await o.spool.readFrom(archived.offset, Math.min(limits.logSegmentBytes, waiting));
  await archiveChunk(o.store, o.log, { firstLine: archived.line, lines: piece.lines, ndjson: piece.chunk });
  archived.offset += piece.chunk.length;
  archived.line += piece.lines;
  const first = progress.marks.findLastIndex((mark) => mark.line <= archived.line);
  progress.marks = progress.marks.slice(Math.max(0, first));
  // Redis keeps at least its newest entry, so that a reader can tell a trimmed line from one not yet written.
  if (published.offset > limits.logTailBytesMax) await trimBefore(o.redis, o.log, Math.min(archived.line, published.line - 1));
}

/** A Redis that came back a second older, or empty, is given again what it has forgotten and the archive does not have. */
function rewind(progress: Progress, last: number): void {
  const { marks } = progress;
  const known = marks.findLastIndex((mark) => mark.line <= last + 1);
  const mark = marks[Math.max(0, known)];
  if (mark === undefined) return;
  progress.published = { ...mark };
  progress.marks = marks.slice(0, Math.max(0, known));
}
