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
  const made: Made = { end: textBytes, line, head: `,"atMs":${atMs},"source":"${source}","text":"`, frame: null };
  let start = 0;
  for (const [index, { continued }] of segments.entries()) {
    const text = texts[index] as Buffer;
    room.set(text, start);
    renderSegment(made, { text, start, continued });
    start += text.length;
  }
  const ndjson = Buffer.from(room.subarray(textBytes, made.end));
  const text = texts.length === 1 ? (texts[0] as Buffer) : Buffer.from(room.subarray(0, textBytes));
  if (room.length > ROOM_BYTES_KEPT) room = Buffer.allocUnsafeSlow(ROOM_BYTES_KEPT);
  return { ndjson, lines: made.line - line, text };
}

/** Holds what a usual chunk of output becomes, between calls. */
const ROOM_BYTES_KEPT = 512 * 1024;
let room = Buffer.allocUnsafeSlow(ROOM_BYTES_KEPT);

/** How far the room is filled, and the number of the next line. */
interface Made {
  end: number;
  line: number;
  head: string;
  frame: Frame | null;
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
/** Around the text of a line: what is above, the number, and the head, whose number is bounded too. */
const FRAME_BYTES_MAX = 160;

/** What JSON writes for a byte that it escapes. */
const ESCAPES: (Buffer | undefined)[] = Array.from({ length: 256 }, (_, byte) =>
  byte < 0x20 || byte === 0x22 || byte === 0x5c ? Buffer.from(JSON.stringify(String.fromCharCode(byte)).slice(1, -1)) : undefined,
);
const ESCAPE_BYTES_MAX = 6;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what JSON escapes, but for the newline that ends a line.
const ESCAPED = /[\x00-\x09\x0b-\x1f"\\]/;

function renderSegment(made: Made, { text, start, continued }: { text: Buffer; start: number; continued: boolean }): void {
  // A character a byte: the engine searches strings many times faster than a loop does.
  const shown = text.toString('latin1');
  const isPlain = !ESCAPED.test(shown);
  const tail = continued ? END_CONTINUED : END;
  for (let at = 0; at < shown.length; ) {
    const newline = shown.indexOf('\n', at);
    const lineEnd = newline < 0 ? shown.length : newline;
    makeRoom(made.end, FRAME_BYTES_MAX + (lineEnd - at) * (isPlain ? 1 : ESCAPE_BYTES_MAX));
    putFrame(made);
    if (isPlain) {
      room.copyWithin(made.end, start + at, start + lineEnd);
      made.end += lineEnd - at;
    } else made.end = putEscaped(text, { at, lineEnd, end: made.end });
    made.end = put(tail, made.end);
    made.line += 1;
    at = lineEnd + 1;
  }
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

function putEscaped(text: Buffer, { at, lineEnd, end }: { at: number; lineEnd: number; end: number }): number {
  const into = room;
  let to = end;
  for (let from = at; from < lineEnd; from += 1) {
    const byte = text[from] as number;
    if (byte >= 0x23 && byte !== 0x5c) into[to++] = byte;
    else if (byte === 0x20 || byte === 0x21) into[to++] = byte;
    else to = put(ESCAPES[byte] as Buffer, to);
  }
  return to;
}

function put(bytes: Buffer, at: number): number {
  const into = room;
  const { length } = bytes;
  for (let index = 0; index < length; index += 1) into[at + index] = bytes[index] as number;
  return at + length;
}

function makeRoom(end: number, bytes: number): void {
  if (end + bytes <= room.length) return;
  const larger = Buffer.allocUnsafeSlow(Math.max(2 * room.length, end + bytes));
  larger.set(room.subarray(0, end));
  room = larger;
}
