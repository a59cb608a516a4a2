/**
 * Lines of output in the log's one form, a JSON object a line (src/job/log-entry.ts). A script may write a million: they are put together
 * from copies within one room, for strings of each would keep the garbage collector busy.
 */
import { isUtf8 } from 'node:buffer';
import type { Source } from '../src/job/log-entry.ts';
import type { Segment } from './line-cutting.ts';

export interface Rendered {
  ndjson: Buffer;
  lines: number;
  /** The bytes that count for the digest: what is not UTF-8 is replaced in them. */
  text: Buffer;
}

/** `line` is the number of the first. */
export interface RenderOptions {
  line: number;
  atMs: number;
  source: Source;
}

export function renderLines(segments: readonly Segment[], { line, atMs, source }: RenderOptions): Rendered {
  const texts = segments.map(({ bytes }) => (isUtf8(bytes) ? bytes : Buffer.from(bytes.toString())));
  const textBytes = texts.reduce((sum, { length }) => sum + length, 0);
  // The texts come first, what they become behind them.
  makeRoom(0, textBytes);
  const made: Made = { end: textBytes, line, head: `,"atMs":${atMs},"source":"${source}","text":"`, frame: null, isMuchEscaped: false };
  let start = 0;
  for (const [index, { continued }] of segments.entries()) {
    const text = texts[index] as Buffer;
    room.set(text, start);
    renderSegment(made, { start, end: start + text.length, continued });
    start += text.length;
  }
  const ndjson = Buffer.from(room.subarray(textBytes, made.end));
  const text = texts.length === 1 ? (texts[0] as Buffer) : Buffer.from(room.subarray(0, textBytes));
  if (room.length > ROOM_BYTES_KEPT) useRoom(ROOM_BYTES_KEPT);
  return { ndjson, lines: made.line - line, text };
}

/** Holds what a usual chunk of output becomes, between calls. */
const ROOM_BYTES_KEPT = 512 * 1024;
let room = Buffer.alloc(0);
/** The same, four bytes at a time. */
let words = new Int32Array(0);
useRoom(ROOM_BYTES_KEPT);

function useRoom(bytes: number): void {
  const made = new ArrayBuffer(4 * Math.ceil(bytes / 4));
  room = Buffer.from(made);
  words = new Int32Array(made);
}

/** How far the room is filled, and the number of the next line. */
interface Made {
  end: number;
  line: number;
  head: string;
  frame: Frame | null;
  /** Of the newest line several characters were escaped. */
  isMuchEscaped: boolean;
}

/** Where what stands before the text of the newest line lies in the room, and in it the last digit of the line's number. */
interface Frame {
  at: number;
  bytes: number;
  lastDigit: number;
}

const BEGIN = '{"line":';
const END = Buffer.from('"}\n');
const END_CONTINUED = Buffer.from('","continued":true}\n');
/** What is put at a time beside text: all that is above, a number, and the head, whose number is bounded too. */
const FRAME_BYTES_MAX = 160;
const ESCAPE_BYTES_MAX = 6;

/** What JSON writes for a byte that it escapes. */
const ESCAPES: (Buffer | undefined)[] = Array.from({ length: 256 }, (_, byte) =>
  byte < 0x20 || byte === 0x22 || byte === 0x5c ? Buffer.from(JSON.stringify(String.fromCharCode(byte)).slice(1, -1)) : undefined,
);
const [SPACE, QUOTE, BACKSLASH, NEWLINE] = [0x20, 0x22, 0x5c, 0x0a];

function renderSegment(made: Made, { start, end, continued }: { start: number; end: number; continued: boolean }): void {
  const tail = continued ? END_CONTINUED : END;
  for (let at = start; at < end; ) {
    makeRoom(made.end, FRAME_BYTES_MAX);
    putFrame(made);
    at = renderText(made, at, end);
    made.end = put(tail, made.end);
    made.line += 1;
  }
}

/** Up to the end of a line, or of all; returns where the next one begins. */
function renderText(made: Made, start: number, end: number): number {
  // Where much of one line is escaped, so is much of the next, mostly.
  if (made.isMuchEscaped) return renderEscaped(made, start, end);
  const found = firstUnusual(start, end);
  const bytes = found - start;
  makeRoom(made.end, bytes + FRAME_BYTES_MAX);
  if (bytes > LOOPED_BYTES_MAX) room.copyWithin(made.end, start, found);
  else copyInLoop(made.end, start, found);
  made.end += bytes;
  return found === end || room[found] === NEWLINE ? found + 1 : renderEscaped(made, found, end);
}

/** A call of the engine takes as long as so many bytes of a loop. */
const LOOPED_BYTES_MAX = 24;

function copyInLoop(to: number, start: number, end: number): void {
  const into = room;
  for (let from = start; from < end; from += 1) into[to + from - start] = into[from] as number;
}

/** For so many bytes room is made at a time. */
const ESCAPED_AT_ONCE = 256;

/** As renderText, byte by byte: where one is escaped there are others. */
function renderEscaped(made: Made, start: number, end: number): number {
  let escapes = 0;
  for (let from = start; ; ) {
    makeRoom(made.end, ESCAPED_AT_ONCE * ESCAPE_BYTES_MAX + FRAME_BYTES_MAX);
    const into = room;
    const stop = Math.min(end, from + ESCAPED_AT_ONCE);
    let to = made.end;
    for (; from < stop; from += 1) {
      const byte = into[from] as number;
      if (!isUnusual(byte)) into[to++] = byte;
      else if (byte !== NEWLINE) {
        to = put(ESCAPES[byte] as Buffer, to);
        escapes += 1;
      } else break;
    }
    made.end = to;
    if (from === stop && from < end) continue;
    made.isMuchEscaped = escapes > 1;
    return from + 1;
  }
}

/**
 * The first byte that ends a line or is escaped, or `end`. Four bytes are looked at together, as in «Determine if a word has a byte less than n» of Sean
 * Anderson's Bit Twiddling Hacks: where that finds one there is one, among the four.
 */
function firstUnusual(start: number, end: number): number {
  const bytes = room;
  const fours = words;
  let at = start;
  for (; (at & 3) !== 0 && at < end; at += 1) if (isUnusual(bytes[at] as number)) return at;
  for (; at + 4 <= end; at += 4) {
    const four = fours[at >> 2] as number;
    const quotes = four ^ 0x22222222;
    const backslashes = four ^ 0x5c5c5c5c;
    const below = ((four - 0x20202020) & ~four) | ((quotes - 0x01010101) & ~quotes) | ((backslashes - 0x01010101) & ~backslashes);
    if ((below & 0x80808080) !== 0) break;
  }
  for (; at < end; at += 1) if (isUnusual(bytes[at] as number)) return at;
  return end;
}

function isUnusual(byte: number): boolean {
  return byte > QUOTE ? byte === BACKSLASH : byte < SPACE || byte === QUOTE;
}

/** Mostly that of the line before, with a number one higher. */
function putFrame(made: Made): void {
  const { frame, end } = made;
  if (frame === null || !copyRaised(frame, end)) {
    const number = String(made.line);
    const bytes = room.write(`${BEGIN}${number}${made.head}`, end, 'latin1');
    made.frame = { at: end, bytes, lastDigit: BEGIN.length + number.length - 1 };
  }
  made.end = end + (made.frame as Frame).bytes;
}

const [NINE, ZERO] = [0x39, 0x30];

/** False where the number needs a digit more: what was copied is to be overwritten then. */
function copyRaised(frame: Frame, to: number): boolean {
  room.copyWithin(to, frame.at, frame.at + frame.bytes);
  let digit = to + frame.lastDigit;
  for (; room[digit] === NINE; digit -= 1) room[digit] = ZERO;
  if (digit < to + BEGIN.length) return false;
  room[digit] = (room[digit] as number) + 1;
  frame.at = to;
  return true;
}

function put(bytes: Buffer, at: number): number {
  const into = room;
  const { length } = bytes;
  for (let index = 0; index < length; index += 1) into[at + index] = bytes[index] as number;
  return at + length;
}

function makeRoom(end: number, bytes: number): void {
  if (end + bytes <= room.length) return;
  const before = room;
  useRoom(Math.max(2 * before.length, end + bytes));
  room.set(before.subarray(0, end));
}
