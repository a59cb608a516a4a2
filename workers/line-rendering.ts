/**
 * Lines of output in the log's one form, a JSON object a line (src/job/log-entry.ts). A script may write a million: they are made
 * byte by byte in one room, for strings of each would keep the garbage collector busy.
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
  const head = Buffer.from(`,"atMs":${atMs},"source":"${source}","text":"`);
  const texts = segments.map(({ bytes }) => (isUtf8(bytes) ? bytes : Buffer.from(bytes.toString())));
  const made = { end: 0, line };
  for (const [index, { continued }] of segments.entries()) renderSegment(made, { text: texts[index] as Buffer, continued, head });
  const ndjson = Buffer.from(room.subarray(0, made.end));
  if (room.length > ROOM_BYTES_KEPT) room = new Uint8Array(ROOM_BYTES_KEPT);
  return { ndjson, lines: made.line - line, text: texts.length === 1 ? (texts[0] as Buffer) : Buffer.concat(texts) };
}

/** Holds what a usual chunk of output becomes, between calls. */
const ROOM_BYTES_KEPT = 512 * 1024;
let room = new Uint8Array(ROOM_BYTES_KEPT);

const NEWLINE = 0x0a;
const BEGIN = Buffer.from('{"line":');
const END = Buffer.from('"}\n');
const END_CONTINUED = Buffer.from('","continued":true}\n');
/** Around the text of a line: what is above, the number, and the head, whose number is bounded too. */
const FRAME_BYTES_MAX = 160;

/** What JSON writes for a byte that it escapes. */
const ESCAPES: (Buffer | undefined)[] = Array.from({ length: 256 }, (_, byte) =>
  byte < 0x20 || byte === 0x22 || byte === 0x5c ? Buffer.from(JSON.stringify(String.fromCharCode(byte)).slice(1, -1)) : undefined,
);
const ESCAPE_BYTES_MAX = 6;

function renderSegment(made: { end: number; line: number }, o: { text: Buffer; continued: boolean; head: Buffer }): void {
  const { text, head } = o;
  const tail = o.continued ? END_CONTINUED : END;
  let { end, line } = made;
  for (let at = 0; at < text.length; line += 1) {
    // Enough for all that is left, as long as nothing is escaped.
    makeRoom(end, FRAME_BYTES_MAX + text.length - at);
    end = put(BEGIN, end);
    end = putNumber(line, end);
    end = put(head, end);
    let bytes = room;
    for (; at < text.length; at += 1) {
      const byte = text[at] as number;
      if (byte >= 0x23 && byte !== 0x5c) bytes[end++] = byte;
      else if (byte === 0x20 || byte === 0x21) bytes[end++] = byte;
      else if (byte === NEWLINE) break;
      else {
        makeRoom(end, ESCAPE_BYTES_MAX + FRAME_BYTES_MAX + text.length - at);
        bytes = room;
        end = put(ESCAPES[byte] as Buffer, end);
      }
    }
    at += 1;
    end = put(tail, end);
  }
  made.end = end;
  made.line = line;
}

function makeRoom(end: number, bytes: number): void {
  if (end + bytes <= room.length) return;
  const larger = new Uint8Array(Math.max(2 * room.length, end + bytes));
  larger.set(room.subarray(0, end));
  room = larger;
}

function put(bytes: Buffer, at: number): number {
  const into = room;
  const { length } = bytes;
  for (let index = 0; index < length; index += 1) into[at + index] = bytes[index] as number;
  return at + length;
}

function putNumber(value: number, at: number): number {
  let end = at + 1;
  for (let left = value; left >= 10; left = Math.floor(left / 10)) end += 1;
  let left = value;
  for (let place = end - 1; place >= at; place -= 1) {
    const rest = Math.floor(left / 10);
    room[place] = 0x30 + left - 10 * rest;
    left = rest;
  }
  return end;
}
