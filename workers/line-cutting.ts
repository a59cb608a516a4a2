/** Where lines end in a stream of bytes, however it was cut into chunks. */

/** Whole lines, each with its newline; or, continued, a piece of a line that is too long. */
export interface Segment {
  bytes: Buffer;
  continued: boolean;
}

/** The beginning of a line whose newline has not come yet. */
export interface PartialLine {
  readonly length: number;
  append(bytes: Buffer): void;
  /** What was appended, valid until the next append; the line is empty then. */
  take(): Buffer;
}

const NEWLINE = 0x0a;
const ROOM_BYTES_MIN = 256;

/** Room grows by doubling, so a line that comes byte by byte costs no more than one that comes at once. */
export function partialLine(): PartialLine {
  let room = Buffer.alloc(0);
  let length = 0;
  return {
    get length() {
      return length;
    },
    append: (bytes) => {
      if (length + bytes.length > room.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(2 * room.length, length + bytes.length, ROOM_BYTES_MIN));
        room.copy(larger, 0, 0, length);
        room = larger;
      }
      bytes.copy(room, length);
      length += bytes.length;
    },
    take: () => {
      const taken = room.subarray(0, length);
      room = Buffer.alloc(0);
      length = 0;
      return taken;
    },
  };
}

/**
 * What a chunk completes, in order; the rest stays in `partial`, never more than `lineBytesMax`. Where a long line is cut depends on
 * its bytes alone, and no UTF-8 character is cut.
 */
export function cutLines(partial: PartialLine, chunk: Buffer, lineBytesMax: number): Segment[] {
  const last = chunk.lastIndexOf(NEWLINE);
  if (last < 0 && partial.length + chunk.length <= lineBytesMax) {
    partial.append(chunk);
    return [];
  }
  const data = partial.length === 0 ? chunk : Buffer.concat([partial.take(), chunk]);
  const segments: Segment[] = [];
  let start = 0;
  for (;;) {
    const window = data.subarray(start, start + lineBytesMax + 1);
    const end = window.lastIndexOf(NEWLINE) + 1;
    if (end === 0 && window.length <= lineBytesMax) break;
    const size = end > 0 ? end : cutBefore(window, lineBytesMax);
    segments.push({ bytes: window.subarray(0, size), continued: end === 0 });
    start += size;
  }
  if (start < data.length) partial.append(data.subarray(start));
  return segments;
}

/** The last place at or before `at` that does not lie within a UTF-8 character. */
function cutBefore(bytes: Buffer, at: number): number {
  if (!isContinuation(bytes[at])) return at;
  for (let back = 1; back <= 3; back += 1) {
    const byte = bytes[at - back] ?? 0;
    if (isContinuation(byte)) continue;
    const characterBytes = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return characterBytes > back ? at - back : at;
  }
  return at;
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}
