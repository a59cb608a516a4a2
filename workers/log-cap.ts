/** Writes a log's lines in order, up to a cap: of what lies beyond its head the end alone is kept, and the rest is one cut. */
import { createHash } from 'node:crypto';
import type { LogDigest } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';

/** Consecutive lines, as they are written; `text` are the bytes that count for the digest. */
interface Piece {
  ndjson: Buffer;
  lines: number;
  text: Buffer;
}

export interface Batch extends Piece {
  firstLine: number;
}

/** In bytes as lines are stored, which is what fills disks. */
export interface Cap {
  /** Of the whole. */
  bytesMax: number;
  /** Of the end alone; it waits in memory. A write that is larger is kept whole. */
  tailBytes: number;
}

export interface LogCapOptions {
  /** Takes whole lines, each ended by a newline; called one at a time. A cut counts as the lines that it stands for. */
  write: (ndjson: Buffer, lines: number) => Promise<void>;
  cap: Cap;
}

/** `bytes` and `sha256` are of the text that was written, `lines` counts those that were cut too. */
export type LogDigestPart = Pick<LogDigest, 'lines' | 'bytes' | 'sha256' | 'truncated'>;

/** Rejections are what `write` threw; after the first one nothing more is written, so what is written has no gap. */
export interface CappedLog {
  /** The head has no more room. */
  readonly full: boolean;
  write(batch: Batch): Promise<void>;
  /** For the line that tells of the cap, the last one of the head. */
  writeHead(batch: Batch): Promise<void>;
  /** Writes the cut and the end, and resolves with the digest of all that was written; never rejects. */
  end(): Promise<LogDigestPart>;
}

export const LOG_CAP: Cap = { bytesMax: limits.logBytesMax, tailBytes: limits.logTailKeptBytes };

const PIECE_BYTES = 1024 * 1024;

export function createCappedLog({ write, cap }: LogCapOptions): CappedLog {
  const writer = createWriter(write);
  const tail = createTail(cap.tailBytes);
  const headBytes = cap.bytesMax - cap.tailBytes;
  let bytes = 0;
  const writeHead = (batch: Batch): Promise<void> => {
    bytes += batch.ndjson.length;
    return writer.write(batch);
  };
  return {
    get full() {
      return bytes >= headBytes;
    },
    writeHead,
    write: async (batch) => (bytes >= headBytes ? tail.add(batch) : writeHead(batch)),
    end: async () => {
      const { cut, pieces } = tail.take();
      const parts = cut === null ? pieces : [pieceOfCut(cut), ...pieces];
      await Promise.all(parts.map((part) => writer.write(part))).catch(() => undefined);
      return { ...(await writer.digest()), truncated: cut !== null };
    },
  };
}

interface LineRange {
  from: number;
  to: number;
}

function pieceOfCut(cut: LineRange): Piece {
  return { ndjson: Buffer.from(`${JSON.stringify({ cut })}\n`), lines: cut.to - cut.from + 1, text: Buffer.alloc(0) };
}

/** The last pieces that together have at least so many bytes, or one alone; what was before them is a range of lines. */
function createTail(bytesMax: number) {
  let kept: Piece[] = [];
  /** Of the oldest piece that is still kept; those before it are dropped, and removed now and then. */
  let oldest = 0;
  let bytes = 0;
  let cut: LineRange | null = null;
  return {
    add: ({ firstLine, ndjson, lines, text }: Batch): void => {
      // A copy: the text may be a small part of a large buffer.
      kept.push({ ndjson, lines, text: Buffer.from(text) });
      bytes += ndjson.length;
      cut ??= { from: firstLine, to: firstLine - 1 };
      for (;;) {
        const first = kept[oldest] as Piece;
        if (oldest === kept.length - 1 || bytes - first.ndjson.length < bytesMax) break;
        bytes -= first.ndjson.length;
        cut.to += first.lines;
        oldest += 1;
      }
      if (2 * oldest < kept.length) return;
      kept = kept.slice(oldest);
      oldest = 0;
    },
    take: (): { cut: LineRange | null; pieces: Piece[] } => {
      const pieces = joined(kept.slice(oldest));
      kept = [];
      return { cut: cut === null || cut.to < cut.from ? null : cut, pieces };
    },
  };
}

/** Few large pieces instead of many small ones. */
function joined(pieces: Piece[]): Piece[] {
  const groups: { members: Piece[]; bytes: number }[] = [];
  for (const piece of pieces) {
    const last = groups.at(-1);
    if (last === undefined || last.bytes >= PIECE_BYTES) groups.push({ members: [piece], bytes: piece.ndjson.length });
    else {
      last.members.push(piece);
      last.bytes += piece.ndjson.length;
    }
  }
  return groups.map(({ members }) => joinedPiece(members));
}

function joinedPiece(pieces: Piece[]): Piece {
  return {
    ndjson: Buffer.concat(pieces.map(({ ndjson }) => ndjson)),
    lines: pieces.reduce((sum, { lines }) => sum + lines, 0),
    text: Buffer.concat(pieces.map(({ text }) => text)),
  };
}

/** Writes in order, and counts what is written. What comes while a write goes on is written together: a script may say little, and often. */
function createWriter(write: LogCapOptions['write']) {
  const hash = createHash('sha256');
  const written = { lines: 0, bytes: 0 };
  let fault: { cause: unknown } | null = null;
  let waiting: Waiting[] = [];
  let busy = false;
  let last: Promise<void> = Promise.resolve();
  const writeAll = async (): Promise<void> => {
    while (waiting.length > 0) {
      const group = nextGroup(waiting);
      waiting = waiting.slice(group.length);
      const piece = group.length === 1 ? (group[0] as Waiting).piece : joinedPiece(group.map((one) => one.piece));
      if (fault === null) {
        await write(piece.ndjson, piece.lines).catch((cause: unknown) => {
          fault = { cause };
        });
      }
      for (const { reject } of fault === null ? [] : group) reject((fault as { cause: unknown }).cause);
      if (fault !== null) continue;
      written.lines += piece.lines;
      written.bytes += piece.text.length;
      hash.update(piece.text);
      for (const { resolve } of group) resolve();
    }
    busy = false;
  };
  return {
    write: (piece: Piece): Promise<void> =>
      new Promise((resolve, reject) => {
        waiting.push({ piece, resolve, reject });
        if (busy) return;
        busy = true;
        last = writeAll();
      }),
    digest: async () => {
      await last;
      return { ...written, sha256: hash.copy().digest('hex') };
    },
  };
}

interface Waiting {
  piece: Piece;
  resolve: () => void;
  reject: (cause: unknown) => void;
}

/** Those from the first on that make up an entry of the log's stream, or one that is larger. A cut is written alone. */
function nextGroup(waiting: readonly Waiting[]): Waiting[] {
  let bytes = 0;
  const end = waiting.findIndex(({ piece }, index) => {
    bytes += piece.ndjson.length;
    return index > 0 && (bytes > limits.logEntryBytesMax || isCut(piece) || isCut((waiting[index - 1] as Waiting).piece));
  });
  return waiting.slice(0, end < 0 ? undefined : end);
}

function isCut({ lines, text }: Piece): boolean {
  return lines > 0 && text.length === 0;
}
