/** The log of one attempt on the worker's side: output becomes numbered lines, lines go to the spool, the spool is published. */
import type { LogDigest } from '../src/job/artifact.ts';
import type { LogId } from '../src/logs/stream.ts';
import type { JoinedSignal } from '../src/service/joined-signal.ts';
import { createLineSplitter } from './line-splitter.ts';
import { type Publisher, startPublisher } from './log-publisher.ts';
import { openSpool } from './log-spool.ts';
import type { Mask } from './masker.ts';
import type { OpenAttempt, WorkerContext } from './worker-context.ts';

export interface AttemptLog {
  push(source: 'stdout' | 'stderr', chunk: Buffer): Promise<void>;
  /** A line of builder's own. */
  note(text: string): Promise<void>;
  /**
   * Ends the log; resolves when all of it is published and archived, rejects where the deadline comes first, which is made for a log that says
   * something. Further calls of push and note change nothing.
   */
  finish(deadline: () => JoinedSignal): Promise<LogDigest>;
  /** Ends the log where it is, without waiting for anybody. */
  digest(): Promise<LogDigest>;
  close(): Promise<void>;
}

const SOURCES = ['stdout', 'stderr'] as const;

export interface AttemptLogOptions {
  spoolPath: string;
  /** Secrets end here: what is behind it leaves the worker. */
  mask: Mask;
}

export async function openAttemptLog(
  worker: WorkerContext,
  open: OpenAttempt,
  { spoolPath, mask }: AttemptLogOptions,
): Promise<AttemptLog> {
  const id: LogId = { run: open.spec.id, attempt: open.attempt, claim: open.claim };
  const spool = await openSpool(spoolPath);
  const maskers = { stdout: mask.stream(), stderr: mask.stream() };
  /** Many runs say nothing. */
  let publisher: Publisher | null = null;
  let closed = false;
  const write = (ndjson: Buffer, lines: number): Promise<void> => {
    if (!closed) publisher ??= startPublisher({ redis: worker.redis, store: worker.store, spool, log: id, logger: worker.logger });
    return spool.append(ndjson, lines);
  };
  const splitter = createLineSplitter({ startedAtMs: performance.now(), write });
  let ended: Promise<LogDigest> | null = null;
  const endAll = async (): ReturnType<typeof splitter.end> => {
    const rests = SOURCES.map((source) => splitter.push(source, maskers[source].flush()));
    await Promise.all(rests).catch(() => undefined);
    return splitter.end();
  };
  const digest = (): Promise<LogDigest> => {
    ended ??= endAll().then((part) => ({ ...part, missing: 0 }));
    return ended;
  };
  return {
    push: async (source, chunk) => (ended === null ? splitter.push(source, maskers[source].push(chunk)) : undefined),
    // A disk that is full takes no note either; the run itself goes on to its end.
    note: async (text) => (ended === null ? splitter.note(mask.text(text)).catch(() => undefined) : undefined),
    digest,
    finish: async (deadline) => {
      const whole = await digest();
      if (publisher === null) return whole;
      const { signal, release } = deadline();
      await publisher.finish(signal).finally(release);
      return whole;
    },
    close: async () => {
      closed = true;
      await publisher?.stop();
      await spool.close();
    },
  };
}
