/** Draining an attempt's spool: to Redis at once, to the archive piece by piece, whatever is away meanwhile. */
import type { Store } from '../src/artifacts/store.ts';
import { limits } from '../src/job/limits.ts';
import { archiveChunk } from '../src/logs/archive.ts';
import { appendChunks, expireStream, type LogChunk, type LogId, lastLine, linesFrom, trimBefore } from '../src/logs/stream.ts';
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

interface Progress {
  published: Position;
  archived: Position;
  /** Where each chunk began that is not archived, and the newest that is, in the order of their lines. */
  marks: Position[];
  /** What is on its way to Redis, in the order of its lines. */
  sending: Sending[];
  /** Where that ends: at `published` while nothing is on its way. */
  sent: Position;
  /** A piece on its way to the archive, while lines go on to Redis; never rejects. */
  archiving: Promise<void> | null;
  archiveFault: { cause: unknown } | null;
  /** What a piece was read into, for the next one. */
  room: Buffer | null;
  /** Redis is another one, or the same after an outage: it must be asked how far it really has come. */
  doubtful: boolean;
  finishing: boolean;
  /** Ends the wait for something to do. */
  wake: () => void;
  /** The spool cannot be read any more: no trying again helps. */
  damage: BuilderError | null;
}

/** Consecutive chunks that go to Redis together; `answer`, the last line that it has then, is never unhandled. */
interface Sending {
  chunks: LogChunk[];
  answer: Promise<number>;
}

/** Starts draining at once; the script is never held up by it. */
export function startPublisher(o: PublisherOptions): Publisher {
  const stopped = new AbortController();
  const progress: Progress = {
    published: { offset: 0, line: 1 },
    archived: { offset: 0, line: 1 },
    marks: [],
    sending: [],
    sent: { offset: 0, line: 1 },
    archiving: null,
    archiveFault: null,
    room: null,
    doubtful: false,
    finishing: false,
    wake: () => undefined,
    damage: null,
  };
  // A script that is silent now may have said things that Redis has forgotten.
  const doubt = (): void => {
    progress.doubtful = true;
    progress.wake();
  };
  o.redis.on('ready', doubt);
  let growth: Promise<void> | null = null;
  const loop = (async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      // One promise a round, and none that outlives it: a race with those would leave something with them each time, for as long as the script talks.
      const woken = new Promise<void>((resolve) => {
        progress.wake = resolve;
      });
      const next = o.spool.grown();
      if (next !== growth) void next.then(() => progress.wake());
      growth = next;
      const { finishing } = progress;
      const step = await drain(o, progress).catch((cause: unknown) => {
        if (cause instanceof BuilderError && cause.code === 'damaged') progress.damage = cause;
        o.logger.debug({ run: o.log.run, error: oneLine(cause) }, 'log not published; trying again');
        return 'fault' as const;
      });
      if (progress.damage !== null) return;
      if (step === 'fault') await pause(limits.faultPauseMs, stopped.signal);
      else if (step === 'idle' && finishing) return;
      else if (step === 'idle') await woken;
    }
  })().finally(async () => {
    o.redis.off('ready', doubt);
    await takeBack(progress);
    await progress.archiving;
  });
  const stop = (): void => {
    // With a word: without one it would make an error, with its stack, for nobody.
    stopped.abort('stopped');
    progress.wake();
  };
  return {
    finish: async (signal) => {
      if (stopped.signal.aborted) throw new Error('the log could not be stored in time');
      progress.finishing = true;
      progress.wake();
      await Promise.race([loop, aborted(signal)]);
      if (progress.damage !== null) throw progress.damage;
      if (!signal.aborted) {
        // The archive has all of it, so nobody waits for this: the stream ends by itself in any case, if later.
        if (o.spool.bytes > 0) expireStream(o.redis, o.log).catch(() => undefined);
        return;
      }
      stop();
      throw new Error('the log could not be stored in time');
    },
    stop: async () => {
      stop();
      await loop;
    },
  };
}

/** One step: the next chunks to Redis, and a piece to the archive beside them. `idle`: nothing to do until the spool grows. */
async function drain(o: PublisherOptions, progress: Progress): Promise<'busy' | 'idle'> {
  throwArchiveFault(progress);
  if (progress.doubtful) {
    await takeBack(progress);
    const last = await lastLine(o.redis, o.log);
    progress.doubtful = false;
    if (last + 1 < progress.published.line) await rewind(progress, last);
  }
  // Redis holds no more than so much that the archive has not.
  if (unarchivedBytes(progress) < limits.logTailBytesMax) {
    await publishChunks(o, progress).catch(async (cause: unknown) => {
      await takeBack(progress);
      throw cause;
    });
  }
  const whole = progress.published.offset >= o.spool.bytes;
  const waiting = unarchivedBytes(progress);
  const ending = progress.finishing && whole;
  if (waiting >= limits.logSegmentBytes || (ending && waiting > 0)) {
    progress.archiving ??= archivePiece(o, progress)
      .catch((cause: unknown) => {
        progress.archiveFault = { cause };
      })
      .finally(() => {
        progress.archiving = null;
        progress.wake();
      });
  }
  if (progress.archiving === null || !(ending || waiting >= limits.logTailBytesMax)) return whole ? 'idle' : 'busy';
  await progress.archiving;
  throwArchiveFault(progress);
  return 'busy';
}

/** What Redis alone has. */
function unarchivedBytes({ published, archived }: Progress): number {
  return published.offset - archived.offset;
}

function throwArchiveFault(progress: Progress): void {
  const fault = progress.archiveFault;
  progress.archiveFault = null;
  if (fault !== null) throw fault.cause;
}

/** Some at once, in their order: of those behind one that Redis refuses it takes none either. While it takes some the next are on their way. */
async function publishChunks(o: PublisherOptions, progress: Progress): Promise<void> {
  while (progress.sending.length < limits.logGroupsAtOnce && progress.sent.offset < o.spool.bytes) await sendChunks(o, progress);
  const [first] = progress.sending;
  if (first === undefined) {
    if (progress.published.offset >= o.spool.bytes) return;
    // Without a wait this would be the next step again, and so on for ever.
    throw new BuilderError('internal', `expected lines behind line ${progress.sent.line} in the spool, got none`);
  }
  const known = await first.answer;
  if (known < progress.published.line) return rewind(progress, known);
  for (const chunk of first.chunks) {
    const { published } = progress;
    // It had the entries before this one, and took none.
    if (known < chunk.firstLine) return takeBack(progress);
    progress.marks.push({ ...published });
    const end = chunk.firstLine + chunk.lines;
    // A repeated append may have been a shorter one before.
    const next = Math.min(known + 1, end);
    published.offset += chunk.ndjson.length - (next < end ? linesFrom(chunk, next).length : 0);
    published.line = next;
    o.spool.forget(published.offset);
    if (next < end) return takeBack(progress);
  }
  progress.sending.shift();
}

async function sendChunks({ redis, log, spool }: PublisherOptions, progress: Progress): Promise<void> {
  const chunks = await nextChunks(spool, progress.sent);
  const answer = appendChunks(redis, log, chunks, progress.archived.line);
  answer.catch(() => undefined);
  progress.sending.push({ chunks, answer });
  for (const { ndjson, lines } of chunks) {
    progress.sent.offset += ndjson.length;
    progress.sent.line += lines;
  }
}

/** What is on its way is waited for, and sent anew where it is not known to have come. */
async function takeBack(progress: Progress): Promise<void> {
  await Promise.allSettled(progress.sending.map(({ answer }) => answer));
  progress.sending = [];
  progress.sent = { ...progress.published };
}

async function nextChunks(spool: Spool, from: Position): Promise<LogChunk[]> {
  const chunks: LogChunk[] = [];
  let { offset, line } = from;
  while (chunks.length < limits.logGroupEntriesMax && offset < spool.bytes) {
    const { chunk, lines } = await spool.readFrom(offset, limits.logEntryBytesMax);
    chunks.push({ firstLine: line, lines, ndjson: chunk });
    offset += chunk.length;
    line += lines;
  }
  return chunks;
}

async function archivePiece(o: PublisherOptions, progress: Progress): Promise<void> {
  const from = progress.archived;
  const to = pieceEnd(progress);
  const bytes = to.offset - from.offset;
  // A long log has many pieces: one room for all of them spares the garbage collector. After a fault somebody may still be sending it.
  const room =
    progress.room !== null && progress.room.length >= bytes
      ? progress.room
      : Buffer.allocUnsafeSlow(2 * bytes < limits.logSegmentBytes ? bytes : Math.max(bytes, limits.logSegmentBytes));
  progress.room = null;
  const ndjson = room.subarray(0, bytes);
  await o.spool.readInto(ndjson, from.offset);
  await archiveChunk(o.store, o.log, { firstLine: from.line, lines: to.line - from.line, ndjson });
  progress.room = room;
  progress.archived = to;
  const first = progress.marks.findLastIndex((mark) => mark.line <= to.line);
  progress.marks = progress.marks.slice(Math.max(0, first));
  const { published } = progress;
  // Redis keeps at least its newest entry, so that a reader can tell a trimmed line from one not yet written.
  if (published.offset > limits.logTailBytesMax) await trimBefore(o.redis, o.log, Math.min(to.line, published.line - 1));
}

/** Pieces end where a chunk does. */
function pieceEnd({ archived, published, marks }: Progress): Position {
  const most = archived.offset + limits.logSegmentBytes;
  if (published.offset <= most) return { ...published };
  const later = marks.filter(({ offset }) => offset > archived.offset);
  return { ...(later.findLast(({ offset }) => offset <= most) ?? later[0] ?? published) };
}

/** A Redis that came back a second older, or empty, is given again what it has forgotten and the archive does not have. */
async function rewind(progress: Progress, last: number): Promise<void> {
  const { marks } = progress;
  const known = marks.findLastIndex((mark) => mark.line <= last + 1);
  const mark = marks[Math.max(0, known)];
  if (mark !== undefined) {
    progress.published = { ...mark };
    progress.marks = marks.slice(0, Math.max(0, known));
  }
  await takeBack(progress);
}
