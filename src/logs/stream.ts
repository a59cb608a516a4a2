/**
 * The live part of an attempt's log: a Redis stream whose entries hold consecutive NDJSON lines. An entry's id is its first line's
 * number, and none is appended that does not go on from the last one, or from the archive: repeated after a lost answer it is not doubled,
 * and a Redis that has forgotten lines takes none that would leave a gap.
 */
import { limits } from '../job/limits.ts';
import { parseLogEntry } from '../job/log-entry.ts';
import type { Redis } from '../redis/connection.ts';
import { keys, shardOf } from '../redis/keys.ts';
import { type CommandLine, transact } from '../redis/transaction.ts';

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

/**
 * Before the entries of a group, which come as plain commands in the same transaction: Lua hashes its arguments byte by byte, so lines are none of
 * them. They are added to a stream by another name, which is there only where this has found that they go on from the last line: where it has not, or fails, they
 * find none. The newest entry would tell the last line with all of its text: so that is kept as the place of a group of consumers that has none; a stream of an
 * older builder has no such group.
 * KEYS stream, its other name, wake-ups. ARGV run, wake-ups at most, life of the stream (ms), first line not archived, first line, last line → last line
 */
const TAKE = `
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'r', ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
local isNew = redis.call('EXISTS', KEYS[1]) == 0
local group = not isNew and redis.call('XINFO', 'GROUPS', KEYS[1])[1]
local function lineOf(id) return tonumber(string.match(id, '^%d+')) end
local first, last = tonumber(ARGV[5]), 0
if group then
  last = lineOf(group[8])
elseif not isNew then
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if newest then last = lineOf(newest[1]) + tonumber(newest[2][2]) - 1 end
end
if first <= last or (first > last + 1 and first > tonumber(ARGV[4])) then return last end
if not isNew then redis.call('RENAME', KEYS[1], KEYS[2]) end
if group then
  redis.call('XGROUP', 'SETID', KEYS[2], 'last', ARGV[6] .. '-0')
else
  redis.call('XGROUP', 'CREATE', KEYS[2], 'last', ARGV[6] .. '-0', 'MKSTREAM')
end
if isNew then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return tonumber(ARGV[6])
`;

/** KEYS stream, its other name */
const GIVE_BACK = `if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end`;

/**
 * Appends chunks that follow one another, all or none, and wakes followers: none where Redis has the first line already, or lacks lines
 * before it that are not archived either (`firstUnarchived` is the first such line). Resolves with the last line that Redis has now.
 */
export async function appendChunks(redis: Redis, log: LogId, chunks: readonly LogChunk[], firstUnarchived = 1): Promise<number> {
  const [key, open] = [KEY_OF(log), keys.logOpen(log.run, log.attempt, log.claim)];
  const [first, end] = [chunks[0]?.firstLine ?? 1, endOf(chunks.at(-1) as LogChunk)];
  const bounds = [limits.wakeEntriesMax, limits.logStreamTtlMs, firstUnarchived];
  // The scripts whole, for by its digest Redis might have forgotten one, and would do the rest without it.
  const answers = await transact(redis, [
    ['eval', TAKE, 3, key, open, keys.wake(shardOf(log.run)), log.run, ...bounds, first, end - 1],
    ...chunks.map(({ firstLine, lines, ndjson }): CommandLine => ['xadd', open, 'NOMKSTREAM', `${firstLine}-0`, 'n', lines, 'd', ndjson]),
    ['eval', GIVE_BACK, 2, key, open],
  ]);
  // Whatever failed, it is told: it is not waited for in silence.
  for (const answer of answers) if (answer instanceof Error) throw answer;
  return Number(answers[0]);
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

/** Up to `count` chunks from the one that holds a line on; only such as follow one another. */
export async function readChunks(redis: Redis, log: LogId, line: number, count: number): Promise<LiveRead> {
  const [start] = await redis.xrevrange(KEY_OF(log), String(line), '-', 'COUNT', 1);
  if (start === undefined) return { kind: (await redis.xlen(KEY_OF(log))) > 0 ? 'trimmed' : 'none' };
  // Where a later entry follows, Redis once came back without the lines between: the archive has them.
  if (lineOfId(start[0]) + Number(start[1][1]) <= line) return { kind: (await lastLine(redis, log)) >= line ? 'trimmed' : 'not-yet' };
  const chunks = await entriesFrom(redis, log, start[0], count);
  // The entry may have been trimmed between the two questions; what came behind it would pass for what was asked.
  return chunks[0]?.firstLine === lineOfId(start[0]) ? { kind: 'chunks', chunks } : { kind: 'trimmed' };
}

/** As readChunks with one question alone: for a line that an entry begins with. Empty where none does, or none yet. */
export async function readNextChunks(redis: Redis, log: LogId, line: number, count: number): Promise<LogChunk[]> {
  const chunks = await entriesFrom(redis, log, `${line}-0`, count);
  return chunks[0]?.firstLine === line ? chunks : [];
}

/** Only such as follow one another. */
async function entriesFrom(redis: Redis, log: LogId, id: string, count: number): Promise<LogChunk[]> {
  const entries = await redis.xrangeBuffer(KEY_OF(log), id, '+', 'COUNT', count);
  const chunks = entries.map(([at, fields]) => ({
    firstLine: lineOfId(at.toString()),
    lines: Number(fields[1]?.toString()),
    ndjson: fields[3] ?? Buffer.alloc(0),
  }));
  const gap = chunks.findIndex((one, index) => index > 0 && one.firstLine !== endOf(chunks[index - 1] as LogChunk));
  return gap < 0 ? chunks : chunks.slice(0, gap);
}

function endOf({ firstLine, lines }: LogChunk): number {
  return firstLine + lines;
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

/** As linesFrom, as a chunk; one that begins at the line or behind it stays as it is. */
export function chunkFrom(chunk: LogChunk, line: number): LogChunk {
  if (chunk.firstLine >= line) return chunk;
  return { firstLine: line, lines: chunk.lines - (line - chunk.firstLine), ndjson: linesFrom(chunk, line) };
}

const CUT = Buffer.from('{"cut":');

/** The cut that stands at an offset, if one does. */
function cutAt(ndjson: Buffer, offset: number): { from: number; to: number } | null {
  if (ndjson.compare(CUT, 0, CUT.length, offset, Math.min(offset + CUT.length, ndjson.length)) !== 0) return null;
  const entry = parseLogEntry(ndjson.toString('utf8', offset, ndjson.indexOf(0x0a, offset)));
  return 'cut' in entry ? entry.cut : null;
}
