/** The log of a running attempt on the worker's disk: what it takes is there for the publisher at its own pace. */
import { closeSync, constants, fstatSync, openSync, read, write } from 'node:fs';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { limits } from '../src/job/limits.ts';
import { BuilderError } from '../src/service/errors.ts';
import { diskFault } from './disk-fault.ts';
import { createSpoolWindow } from './spool-window.ts';

export interface SpoolRead {
  /** Whole lines, each ended by a newline; or one cut, which stands for its lines. */
  chunk: Buffer;
  lines: number;
}

export interface Spool {
  /** What can be read. */
  readonly bytes: number;
  readonly lines: number;
  /**
   * Appends whole lines; one after the other in the order of the calls. Rejects with BuilderError `store-full` (or `internal`), and
   * then none of it can be read and the next append takes its place.
   */
  append(ndjson: Buffer, lines: number): Promise<void>;
  /** Whole lines from an offset at which a line begins: at most `maxBytes`, but one line at least where there is one. */
  readFrom(offset: number, maxBytes: number): Promise<SpoolRead>;
  /** As many bytes as there is room for, which must be there. */
  readInto(room: Buffer, offset: number): Promise<void>;
  /** What lies before an offset is read again only after a fault: it need not be kept in memory. */
  forget(offset: number): void;
  /** Resolves at the next append or when the spool is closed. */
  grown(): Promise<void>;
  /** Resolves once everything asked for is done. */
  close(): Promise<void>;
  /** Closes it and removes the file. */
  remove(): Promise<void>;
}

const NEWLINE = 0x0a;

/** Makes the file, or takes the empty one that is there. */
export async function openSpool(path: string): Promise<Spool> {
  const file = openEmpty(path);
  const size = { bytes: 0, lines: 0 };
  const growth = createGrowth();
  const window = createSpoolWindow({ bytesMax: limits.logWindowBytes, rangeBytes: limits.logEntryBytesMax / 2 });
  let last: Promise<void> = Promise.resolve();
  let closing: Promise<void> | null = null;
  const appendOne = async (ndjson: Buffer, lines: number): Promise<void> => {
    try {
      await writeAt(file, ndjson, size.bytes);
    } catch (cause) {
      throw diskFault(cause, `append to the log's file ${path}`);
    }
    window.add({ offset: size.bytes, ndjson, lines, isCut: cutOf(ndjson) !== null });
    size.bytes += ndjson.length;
    size.lines += lines;
    growth.tell();
  };
  const close = (): Promise<void> => {
    // A number that is closed may soon be another file's.
    closing ??= Promise.allSettled([last, ...reads])
      .then(() => closeSync(file))
      .finally(() => growth.tell());
    return closing;
  };
  const reads = new Set<Promise<void>>();
  const readInto = async (room: Buffer, offset: number): Promise<void> => {
    if (closing !== null) throw new BuilderError('internal', `expected an open log, got the closed ${path}`);
    const reading = readAt(file, room, { path, offset, end: size.bytes });
    reads.add(reading);
    await reading.finally(() => reads.delete(reading));
  };
  const bytesAt = async (offset: number, bytes: number): Promise<Buffer> => {
    const room = Buffer.allocUnsafeSlow(bytes);
    await readInto(room, offset);
    return room;
  };
  return {
    get bytes() {
      return size.bytes;
    },
    get lines() {
      return size.lines;
    },
    append: (ndjson, lines) => {
      if (closing !== null) return Promise.reject(new BuilderError('internal', `expected an open log, got the closed ${path}`));
      const done = last.then(() => appendOne(ndjson, lines));
      last = done.catch(() => undefined);
      return done;
    },
    readFrom: async (offset, maxBytes) => {
      if (offset >= size.bytes) return { chunk: Buffer.alloc(0), lines: 0 };
      const range = window.from(offset, maxBytes);
      if (range !== null)
        return { chunk: range.parts === null ? await bytesAt(offset, range.bytes) : joined(range.parts), lines: range.lines };
      // In the middle of a part, or at one that is too long: up to where the next one begins, if no sooner.
      const most = Math.min(maxBytes, window.nextAfter(offset) - offset);
      const chunk = untilCut(await readLines(readInto, { path, offset, maxBytes: most, end: size.bytes }));
      return { chunk, lines: countLines(chunk) };
    },
    readInto,
    forget: window.forget,
    grown: () => (closing === null ? growth.next() : Promise.resolve()),
    close,
    remove: async () => {
      await close();
      await rm(path, { force: true });
    },
  };
}

/** One promise for all who wait, made when somebody does. */
function createGrowth(): { next(): Promise<void>; tell(): void } {
  let waiting: { promise: Promise<void>; resolve: () => void } | null = null;
  return {
    next: () => {
      if (waiting === null) {
        let resolve: () => void = () => undefined;
        const promise = new Promise<void>((given) => {
          resolve = given;
        });
        waiting = { promise, resolve };
      }
      return waiting.promise;
    },
    tell: () => {
      waiting?.resolve();
      waiting = null;
    },
  };
}

const readFd = promisify(read);
const writeFd = promisify(write);

/** Synchronous, as run-folder.ts. */
function openEmpty(path: string): number {
  try {
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    const found = fstatSync(file);
    if (found.isFile() && found.nlink === 1 && found.size === 0) return file;
    closeSync(file);
    throw new Error('something else in its place');
  } catch (cause) {
    throw diskFault(cause, `make the log's file ${path}`);
  }
}

async function writeAt(file: number, content: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < content.length; ) {
    done += (await writeFd(file, content, done, content.length - done, offset + done)).bytesWritten;
  }
}

interface Reading {
  path: string;
  offset: number;
  maxBytes: number;
  /** Where what was appended ends; a newline stands before it. */
  end: number;
}

/** Reads more, twice as much each time, until there is a newline in it. */
async function readLines(readInto: Spool['readInto'], { path, offset, maxBytes, end }: Reading): Promise<Buffer> {
  for (let wanted = Math.max(1, maxBytes); ; wanted *= 2) {
    const room = Buffer.allocUnsafe(Math.min(wanted, end - offset));
    await readInto(room, offset);
    const lineEnd = room.lastIndexOf(NEWLINE) + 1;
    if (lineEnd > 0) return room.subarray(0, lineEnd);
    if (room.length === end - offset) throw damaged(path, 'a newline at its end', 'none');
  }
}

async function readAt(file: number, room: Buffer, { path, offset, end }: Omit<Reading, 'maxBytes'>): Promise<void> {
  for (let filled = 0; filled < room.length; ) {
    const { bytesRead } = await readFd(file, room, filled, room.length - filled, offset + filled);
    if (bytesRead === 0) throw damaged(path, `${end} bytes`, `${offset + filled}`);
    filled += bytesRead;
  }
}

function joined(parts: Buffer[]): Buffer {
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
}

/** A cut is a chunk of its own. Newlines within a line's text are escaped, so what looks like one is one. */
function untilCut(chunk: Buffer): Buffer {
  if (cutOf(chunk) !== null) return chunk.subarray(0, chunk.indexOf(NEWLINE) + 1);
  const before = chunk.indexOf('\n{"cut":');
  return before < 0 ? chunk : chunk.subarray(0, before + 1);
}

function cutOf(chunk: Buffer): { from: number; to: number } | null {
  const match = /^\{"cut":\{"from":(\d+),"to":(\d+)\}\}\n/.exec(chunk.toString('latin1', 0, 64));
  return match === null ? null : { from: Number(match[1]), to: Number(match[2]) };
}

function countLines(chunk: Buffer): number {
  const cut = cutOf(chunk);
  if (cut !== null) return cut.to - cut.from + 1;
  let lines = 0;
  for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, at + 1)) lines += 1;
  return lines;
}

/** A script can reach the file where nothing keeps it in its folder; then its log is spoilt, and nothing else. */
function damaged(path: string, expected: string, got: string): BuilderError {
  return new BuilderError('damaged', `expected ${expected} in the log's file ${path}, got ${got}`);
}
