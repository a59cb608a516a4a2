/**
 * The live part of an attempt's log: a Redis stream whose entries hold consecutive NDJSON lines. An entry's id is its first line's
 * number, so an append repeated after a lost answer is refused by Redis instead of doubled.
 */
import { limits } from '../job/limits.ts';
import { parseLogEntry } from '../job/log-entry.ts';
import type { Redis } from '../redis/connection.ts';
import { keys, shardOf } from '../redis/keys.ts';

/** One attempt's log, wherever it lies. */
export interface LogId {
  run: string;
  attempt: number;
  claim: string;
}

export interface LogChunk {
  firstLine: number;
  lines: number;
  ndjson: Buffer;
}

const KEY_OF = (log: LogId): string => keys.log(log.run, log.attempt, log.claim);

/** Appends lines and wakes followers; a chunk that Redis has already is left alone. */
export async function appendChunk(redis: Redis, log: LogId, chunk: LogChunk): Promise<void> {
  const pipeline = redis
    .pipeline()
    .xadd(KEY_OF(log), `${chunk.firstLine}-0`, 'n', chunk.lines, 'd', chunk.ndjson)
    .xadd(keys.wake(shardOf(log.run)), 'MAXLEN', '~', limits.wakeEntriesMax, '*', 'r', log.run);
  if (chunk.firstLine === 1) pipeline.pexpire(KEY_OF(log), limits.logStreamTtlMs);
  const answers = (await pipeline.exec()) ?? [];
  for (const [error] of answers) {
    if (error !== null && !/equal or smaller/.test(error.message)) throw error;
  }
}

/** The number of the last line that Redis holds of a log; 0 when it holds none. */
export async function lastLine(redis: Redis, log: LogId): Promise<number> {
  const [entry] = await redis.xrevrange(KEY_OF(log), '+', '-', 'COUNT', 1);
  return entry === undefined ? 0 : lineOfId(entry[0]) + Number(entry[1][1]) - 1;
}

/** Drops the entries before the one that holds a line; what they held is in the archive by then. */
export async function trimBefore(redis: Redis, log: LogId, line: number): Promise<void> {
  const [entry] = await redis.xrevrange(KEY_OF(log), String(line), '-', 'COUNT', 1);
  if (entry !== undefined) await redis.xtrim(KEY_OF(log), 'MINID', '=', entry[0]);
}

/** The stream of an ended, archived log stays for a while for those who are in the middle of it. */
export async function expireStream(redis: Redis, log: LogId): Promise<void> {
  await redis.pexpire(KEY_OF(log), limits.logStreamTtlMsAfterEnd);
}

/** Where a line is: in these chunks; not written yet; trimmed away, so in the archive if anywhere; or Redis has no stream at all. */
export type LiveRead = { kind: 'chunks'; chunks: LogChunk[] } | { kind: 'not-yet' | 'trimmed' | 'none' };

/** Up to `count` chunks from the one that holds a line on. */
export async function readChunks(redis: Redis, log: LogId, line: number, count: number): Promise<LiveRead> {
  const [start] = await redis.xrevrange(KEY_OF(log), String(line), '-', 'COUNT', 1);
  if (start === undefined) return { kind: (await redis.xlen(KEY_OF(log))) > 0 ? 'trimmed' : 'none' };
  if (lineOfId(start[0]) + Number(start[1][1]) <= line) return { kind: 'not-yet' };
  const entries = await redis.xrangeBuffer(KEY_OF(log), start[0], '+', 'COUNT', count);
  // The entry may have been trimmed between the two questions; what came behind it would pass for what was asked.
  if (entries[0]?.[0].toString() !== start[0]) return { kind: 'trimmed' };
  const chunks = entries.map(([id, fields]) => ({
    firstLine: lineOfId(id.toString()),
    lines: Number(fields[1]?.toString()),
    ndjson: fields[3] ?? Buffer.alloc(0),
  }));
  return { kind: 'chunks', chunks };
}

function lineOfId(id: string): number {
  return Number(id.slice(0, id.indexOf('-')));
}

/** A chunk without the lines before the wanted one; of a cut the lines from it on are left. */
export function linesFrom(chunk: LogChunk, line: number): Buffer {
  let offset = 0;
  for (let skipped = chunk.firstLine; skipped < line; skipped += 1) {
    const end = chunk.ndjson.indexOf(0x0a, offset);
    if (end < 0) break;
    const cut = cutAt(chunk.ndjson, offset);
    if (cut !== null && cut.to >= line) {
      const rest = Buffer.from(`${JSON.stringify({ cut: { from: line, to: cut.to } })}\n`);
      return Buffer.concat([rest, chunk.ndjson.subarray(end + 1)]);
    }
    if (cut !== null) skipped = cut.to;
    offset = end + 1;
  }
  return chunk.ndjson.subarray(offset);
}

const CUT = Buffer.from('{"cut":');

/** The cut that stands at an offset, if one does. */
function cutAt(ndjson: Buffer, offset: number): { from: number; to: number } | null {
  if (ndjson.compare(CUT, 0, CUT.length, offset, Math.min(offset + CUT.length, ndjson.length)) !== 0) return null;
  const entry = parseLogEntry(ndjson.toString('utf8', offset, ndjson.indexOf(0x0a, offset)));
  return 'cut' in entry ? entry.cut : null;
}
