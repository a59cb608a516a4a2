/** What a spool took and nobody has called done: the newest in memory; of the rest, which may be long, where it lies and how many lines it has. */
import { createOffsetQueue, type OffsetQueue } from './offset-queue.ts';

/** As it was appended: whole lines, or one cut. */
interface Part {
  offset: number;
  bytes: number;
  lines: number;
  isCut: boolean;
  /** Null where the file alone has it. */
  ndjson: Buffer | null;
}

export interface SpoolRange {
  bytes: number;
  lines: number;
  /** Null where it is to be read from the file. */
  parts: Buffer[] | null;
}

export interface SpoolWindow {
  add(part: { offset: number; ndjson: Buffer; lines: number; isCut: boolean }): void;
  /** Whole parts from an offset on, together at most `maxBytes`; null where none begins there that is so small. A cut comes alone. */
  from(offset: number, maxBytes: number): SpoolRange | null;
  /** Where the next part behind an offset begins, or Infinity. */
  nextAfter(offset: number): number;
  /** What lies before an offset is not asked for any more, but after a fault. */
  forget(offset: number): void;
}

export interface WindowBounds {
  /** Of what is in memory. */
  bytesMax: number;
  /** Of what is joined to one range of the file, so that the ranges of a long log are few. */
  rangeBytes: number;
}

export function createSpoolWindow({ bytesMax, rangeBytes }: WindowBounds): SpoolWindow {
  const filed = createOffsetQueue<Part>();
  const held = createOffsetQueue<Part>();
  let heldBytes = 0;
  const letGo = (): void => {
    const part = held.shift() as Part;
    heldBytes -= part.bytes;
    const before = filed.last();
    if (before === undefined || before.isCut || part.isCut || before.bytes + part.bytes > rangeBytes) {
      filed.push({ ...part, ndjson: null });
      return;
    }
    before.bytes += part.bytes;
    before.lines += part.lines;
  };
  return {
    add: ({ offset, ndjson, lines, isCut }) => {
      held.push({ offset, bytes: ndjson.length, lines, isCut, ndjson });
      heldBytes += ndjson.length;
      while (heldBytes > bytesMax) letGo();
    },
    from: (offset, maxBytes) => rangeFrom(filed, offset, maxBytes) ?? rangeFrom(held, offset, maxBytes),
    nextAfter: (offset) => filed.after(offset)?.offset ?? held.after(offset)?.offset ?? Number.POSITIVE_INFINITY,
    forget: (offset) => {
      const isBefore = (part: Part | undefined): boolean => part !== undefined && part.offset + part.bytes <= offset;
      while (isBefore(filed.first())) filed.shift();
      while (isBefore(held.first())) heldBytes -= held.shift()?.bytes ?? 0;
    },
  };
}

function rangeFrom(queue: OffsetQueue<Part>, offset: number, maxBytes: number): SpoolRange | null {
  const range: SpoolRange = { bytes: 0, lines: 0, parts: [] };
  for (const part of queue.from(offset)) {
    if (range.bytes + part.bytes > maxBytes || (part.isCut && range.bytes > 0)) break;
    range.bytes += part.bytes;
    range.lines += part.lines;
    if (part.ndjson === null) range.parts = null;
    else range.parts?.push(part.ndjson);
    if (part.isCut) break;
  }
  return range.bytes > 0 ? range : null;
}
