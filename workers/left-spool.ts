/** The log that a dead worker had on its disk: its lines as far as they are whole and follow one another. */
import type { FileHandle } from 'node:fs/promises';
import { limits } from '../src/job/limits.ts';
import { type LogEntry, parseLogEntry } from '../src/job/log-entry.ts';
import type { LogChunk } from '../src/logs/stream.ts';
import { BuilderError } from '../src/service/errors.ts';
import { openRegular } from './regular-file.ts';

const READ_BYTES = 256 * 1024;
const NEWLINE = 0x0a;
/** A line as long as it may be, each character of its text escaped. */
const LINE_BYTES_MAX = 8 * limits.logLineBytesMax;
/** The last write may go over the cap, and the end of a log is kept beyond it. */
const SPOOL_BYTES_MAX = limits.logBytesMax + 2 * limits.logTailKeptBytes;

/**
 * Chunks of about limits.logSegmentBytes, from line 1 on. A last line that was not written to its end is left out. Throws BuilderError
 * `damaged`, after what is good, where the file goes on with something else: a script can reach it where nothing keeps it in its folder.
 */
export async function* readLeftSpool(path: string): AsyncGenerator<LogChunk> {
  const file = await openRegular(path);
  let chunk = emptyChunk(1);
  let fault: unknown = null;
  try {
    for await (const { text, whole } of linesOf(file, path)) {
      const next = chunk.firstLine + chunk.lines;
      const entry = entryOf(text);
      const lines = entry === null ? 0 : linesAt(entry, next);
      if (lines === 0) {
        if (whole) fault = damaged(path, `line ${next}`, JSON.stringify(text.slice(0, 60)));
        break;
      }
      chunk.parts.push(`${JSON.stringify(entry)}\n`);
      chunk.lines += lines;
      chunk.bytes += text.length;
      if (chunk.bytes < limits.logSegmentBytes) continue;
      yield joined(chunk);
      chunk = emptyChunk(chunk.firstLine + chunk.lines);
    }
  } catch (cause) {
    fault = cause;
  } finally {
    await file.close();
  }
  if (chunk.lines > 0) yield joined(chunk);
  if (fault !== null) throw fault;
}

interface OpenChunk {
  firstLine: number;
  lines: number;
  bytes: number;
  parts: string[];
}

function emptyChunk(firstLine: number): OpenChunk {
  return { firstLine, lines: 0, bytes: 0, parts: [] };
}

function joined({ firstLine, lines, parts }: OpenChunk): LogChunk {
  return { firstLine, lines, ndjson: Buffer.from(parts.join('')) };
}

/** How many lines it stands for, if it is what comes next; else 0. */
function linesAt(entry: LogEntry, next: number): number {
  if ('line' in entry) return entry.line === next ? 1 : 0;
  if ('cut' in entry) return entry.cut.from === next ? Math.max(0, entry.cut.to - next + 1) : 0;
  return 0;
}

function entryOf(json: string): LogEntry | null {
  try {
    return parseLogEntry(json);
  } catch {
    return null;
  }
}

/** `whole`: a newline ends it. */
async function* linesOf(file: FileHandle, path: string): AsyncGenerator<{ text: string; whole: boolean }> {
  const room = Buffer.allocUnsafe(READ_BYTES);
  let rest: Buffer = Buffer.alloc(0);
  for (let offset = 0; ; ) {
    const { bytesRead } = await file.read(room, 0, room.length, offset);
    if (bytesRead === 0) break;
    offset += bytesRead;
    const bytes = Buffer.concat([rest, room.subarray(0, bytesRead)]);
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      yield { text: bytes.toString('utf8', start, end), whole: true };
      start = end + 1;
    }
    rest = bytes.subarray(start);
    if (rest.length > LINE_BYTES_MAX) throw damaged(path, `lines of at most ${LINE_BYTES_MAX} bytes`, 'a longer one');
    if (offset > SPOOL_BYTES_MAX) throw damaged(path, `at most ${SPOOL_BYTES_MAX} bytes`, 'more');
  }
  if (rest.length > 0) yield { text: rest.toString(), whole: false };
}

function damaged(path: string, expected: string, got: string): BuilderError {
  return new BuilderError('damaged', `expected ${expected} in the log's file ${path}, got ${got}`);
}
