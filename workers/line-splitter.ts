/** Output in chunks becomes numbered lines in the log's one form, written in batches; the log's digest is made on the way. */
import { isAscii, isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { LogDigest } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import type { Source } from '../src/job/log-entry.ts';
import { cutLines, type PartialLine, partialLine } from './line-cutting.ts';

export interface LineSplitterOptions {
  /** The moment to which lines are relative, on the clock of `now`. */
  startedAtMs: number;
  /** A clock that never goes back, in milliseconds; default `performance.now`. */
  now?: () => number;
  /** Takes whole lines, each ended by a newline; called one at a time, in the order of their numbers. */
  write: (ndjson: Buffer, lines: number) => Promise<void>;
}

/** `bytes` and `sha256` as LogEnd says. */
export type LogDigestPart = Pick<LogDigest, 'lines' | 'bytes' | 'sha256'>;

/** Rejections are what `write` threw; after the first one nothing more is written, so what is written has no gap. */
export interface LineSplitter {
  /** Resolves when the lines that the chunk completes are written; the chunk is not to be changed before. */
  push(source: 'stdout' | 'stderr', chunk: Buffer): Promise<void>;
  /** A line of builder's own: `builder: ` and the text. */
  note(text: string): Promise<void>;
  /** Makes lines of what has no newline yet: for the moment after which nobody writes any more. */
  flush(): Promise<void>;
  /** Flushes, and resolves with the digest of all that was written; never rejects. */
  end(): Promise<LogDigestPart>;
}

/** Lines of one write; `texts` are the bytes that count for the digest. */
interface Batch {
  ndjson: string;
  lines: number;
  texts: Buffer[];
}

export function createLineSplitter(o: LineSplitterOptions): LineSplitter {
  const now = o.now ?? (() => performance.now());
  const partials = { stdout: partialLine(), stderr: partialLine() };
  const writer = createWriter(o.write);
  let line = 0;
  const render = (source: Source, segments: Segment[]): Promise<void> => {
    if (segments.length === 0) return Promise.resolve();
    const atMs = Math.max(0, Math.round(now() - o.startedAtMs));
    const batch: Batch = { ndjson: '', lines: 0, texts: [] };
    for (const segment of segments)
      addSegment(batch, segment, { line: line + batch.lines + 1, head: `,"atMs":${atMs},"source":"${source}","text":` });
    line += batch.lines;
    return writer.write(batch);
  };
  const flush = async (): Promise<void> => {
    const flushed = (['stdout', 'stderr'] as const).map((source) => render(source, rest(partials[source])));
    await Promise.all(flushed);
  };
  return {
    push: (source, chunk) => render(source, cutLines(partials[source], chunk, limits.logLineBytesMax)),
    note: (text) => {
      const once = partialLine();
      const bytes = Buffer.from(`builder: ${text.replaceAll('\n', '\\n')}\n`);
      return render('builder', cutLines(once, bytes, limits.logLineBytesMax));
    },
    flush,
    end: async () => {
      await flush().catch(() => undefined);
      return writer.digest();
    },
  };
}

type Segment = ReturnType<typeof cutLines>[number];

/** The unfinished line as a segment of its own, its missing newline added. */
function rest(partial: PartialLine): Segment[] {
  return partial.length === 0 ? [] : [{ bytes: Buffer.concat([partial.take(), Buffer.from('\n')]), continued: false }];
}

function addSegment(batch: Batch, { bytes, continued }: Segment, o: { line: number; head: string }): void {
  // Newlines are never part of a longer character, so decoding many lines at once gives what decoding each would.
  const text = isAscii(bytes) ? bytes.toString('latin1') : bytes.toString();
  batch.texts.push(isUtf8(bytes) ? bytes : Buffer.from(text));
  if (continued) {
    batch.ndjson += `{"line":${o.line}${o.head}${JSON.stringify(text)},"continued":true}\n`;
    batch.lines += 1;
    return;
  }
  let { line } = o;
  let ndjson = '';
  for (let start = 0; start < text.length; line += 1) {
    const end = text.indexOf('\n', start);
    ndjson += `{"line":${line}${o.head}${JSON.stringify(text.slice(start, end))}}\n`;
    start = end + 1;
  }
  batch.ndjson += ndjson;
  batch.lines += line - o.line;
}

/** Writes one batch after the other, and counts what is written. */
function createWriter(write: LineSplitterOptions['write']): { write(batch: Batch): Promise<void>; digest(): Promise<LogDigestPart> } {
  const hash = createHash('sha256');
  const written = { lines: 0, bytes: 0 };
  let fault: { cause: unknown } | null = null;
  let last: Promise<void> = Promise.resolve();
  const writeOne = async (batch: Batch): Promise<void> => {
    if (fault !== null) throw fault.cause;
    try {
      await write(Buffer.from(batch.ndjson), batch.lines);
    } catch (cause) {
      fault = { cause };
      throw cause;
    }
    written.lines += batch.lines;
    for (const text of batch.texts) {
      written.bytes += text.length;
      hash.update(text);
    }
  };
  return {
    write: (batch) => {
      const done = last.then(() => writeOne(batch));
      last = done.catch(() => undefined);
      return done;
    },
    digest: async () => {
      await last;
      return { ...written, sha256: hash.copy().digest('hex') };
    },
  };
}
