/** Output in chunks becomes numbered lines in the log's one form, written in batches up to the log's cap. */
import { limits } from '../src/job/limits.ts';
import type { Source } from '../src/job/log-entry.ts';
import { cutLines, type PartialLine, partialLine, type Segment } from './line-cutting.ts';
import { renderLines } from './line-rendering.ts';
import { type Batch, type Cap, createCappedLog, LOG_CAP, type LogCapOptions, type LogDigestPart } from './log-cap.ts';

export interface LineSplitterOptions {
  /** The moment to which lines are relative, on the clock of `now`. */
  startedAtMs: number;
  /** A clock that never goes back, in milliseconds; default `performance.now`. */
  now?: () => number;
  /** Called in the order of the lines' numbers. */
  write: LogCapOptions['write'];
  /** Default: LOG_CAP. */
  cap?: Cap;
}

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

export function createLineSplitter(o: LineSplitterOptions): LineSplitter {
  const now = o.now ?? (() => performance.now());
  const partials = { stdout: partialLine(), stderr: partialLine() };
  const log = createCappedLog({ write: o.write, cap: o.cap ?? LOG_CAP });
  let line = 0;
  let told = false;
  const batchOf = (source: Source, segments: Segment[]): Batch => {
    const atMs = Math.max(0, Math.round(now() - o.startedAtMs));
    const firstLine = line + 1;
    const rendered = renderLines(segments, { line: firstLine, atMs, source });
    line += rendered.lines;
    return { firstLine, ...rendered };
  };
  const render = async (source: Source, segments: Segment[]): Promise<void> => {
    if (segments.length === 0) return;
    const written = [log.write(batchOf(source, segments))];
    if (log.full && !told) {
      told = true;
      written.push(log.writeHead(batchOf('builder', segmentsOfNote('this log is full: of what follows, its end alone is kept'))));
    }
    await Promise.all(written);
  };
  const flush = async (): Promise<void> => {
    const flushed = (['stdout', 'stderr'] as const).map((source) => render(source, rest(partials[source])));
    await Promise.all(flushed);
  };
  return {
    push: (source, chunk) => render(source, cutLines(partials[source], chunk, limits.logLineBytesMax)),
    note: (text) => render('builder', segmentsOfNote(text)),
    flush,
    end: async () => {
      await flush().catch(() => undefined);
      return log.end();
    },
  };
}

function segmentsOfNote(text: string): Segment[] {
  return cutLines(partialLine(), Buffer.from(`builder: ${text.replaceAll('\n', '\\n')}\n`), limits.logLineBytesMax);
}

/** The unfinished line as a segment of its own, its missing newline added. */
function rest(partial: PartialLine): Segment[] {
  return partial.length === 0 ? [] : [{ bytes: Buffer.concat([partial.take(), Buffer.from('\n')]), continued: false }];
}
