/** The newest of what a spool took, still in memory: who keeps up with it reads no file and counts no lines. */

/** As it was appended: whole lines, or one cut. */
export interface SpoolPart {
  ndjson: Buffer;
  lines: number;
}

export interface SpoolWindow {
  add(offset: number, part: SpoolPart): void;
  /** Parts that follow one another from an offset on, together at most `maxBytes`; empty where none begins there or the first is larger. */
  from(offset: number, maxBytes: number): SpoolPart[];
  /** What lies before an offset is not needed any more. */
  forget(offset: number): void;
}

export function createSpoolWindow(bytesMax: number): SpoolWindow {
  let parts: (SpoolPart & { offset: number })[] = [];
  /** Of the first that counts; those before it are dropped, and removed now and then. */
  let oldest = 0;
  let bytes = 0;
  const dropOldest = (): void => {
    bytes -= parts[oldest]?.ndjson.length ?? 0;
    oldest += 1;
    if (2 * oldest < parts.length) return;
    parts = parts.slice(oldest);
    oldest = 0;
  };
  return {
    add: (offset, part) => {
      parts.push({ ...part, offset });
      bytes += part.ndjson.length;
      while (bytes > bytesMax) dropOldest();
    },
    from: (offset, maxBytes) => {
      let at = indexAt(parts, oldest, offset);
      const taken: SpoolPart[] = [];
      for (let room = maxBytes; at >= 0 && at < parts.length; at += 1) {
        const part = parts[at] as SpoolPart;
        room -= part.ndjson.length;
        if (room < 0) break;
        taken.push(part);
      }
      return taken;
    },
    forget: (offset) => {
      for (let first = parts[oldest]; first !== undefined && first.offset + first.ndjson.length <= offset; first = parts[oldest])
        dropOldest();
    },
  };
}

/** Where the part of that offset is, or -1. */
function indexAt(parts: readonly { offset: number }[], first: number, offset: number): number {
  let low = first;
  let high = parts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((parts[middle]?.offset ?? 0) < offset) low = middle + 1;
    else high = middle;
  }
  return parts[low]?.offset === offset ? low : -1;
}
