/** The log of a run, attempt after attempt, as its followers see it. */

import { limits } from '../job/limits.ts';
import type { LogEnd } from '../job/log-entry.ts';
import type { RunRecord, RunResult } from '../job/run.ts';
import { type AttemptState, readLog } from '../logs/reader.ts';
import type { LogId } from '../logs/stream.ts';
import type { Queues } from '../queue/queues.ts';
import { AttemptStart, readRecord } from '../queue/records.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import { BuilderError } from '../service/errors.ts';
import type { ServerContext } from './server-context.ts';

export interface RunLogOptions {
  id: string;
  /** First line wanted of the first attempt shown, from 1. */
  from: number;
  /** Waits for what is not there yet, later attempts included, until the run has ended. */
  follow: boolean;
  /** This attempt alone; the newest, or the one that counts, when null. */
  attempt: number | null;
  signal: AbortSignal;
  /** Told true when all there is has been given and more is waited for, false when it is looked for again. */
  onQuiet: (isQuiet: boolean) => void;
}

const END = Buffer.from('{"end":');

/** Chunks of whole NDJSON lines; the end record comes once, last, when the run has ended. */
export async function* runLog({ queues, logs }: ServerContext, o: RunLogOptions): AsyncGenerator<Buffer> {
  const follower = logs.wakeUps.follow(o.id);
  let shown = 0;
  let { from } = o;
  let ended = false;
  try {
    while (!o.signal.aborted) {
      const record = await readRecord(queues.redis, o.id);
      if (record === null) throw new BuilderError('not-found', `no such run: ${o.id}`);
      const log = nextLog(record, shown, o.attempt);
      if (log !== null) {
        for await (const chunk of readLog(logs, { log, from, follow: o.follow, signal: o.signal, onQuiet: o.onQuiet })) {
          ended = chunk.subarray(0, END.length).equals(END);
          yield chunk;
        }
        if (o.attempt !== null || !o.follow) return;
        shown = log.attempt;
        from = 1;
        continue;
      }
      // A run may end after its last attempt did, as one that is cancelled while it waits for the next.
      if (record.result !== null && !ended) yield endOf(record.result);
      if (record.result !== null || o.attempt !== null || !o.follow) return;
      o.onQuiet(true);
      await follower.wait(limits.followPollMs, o.signal);
      o.onQuiet(false);
    }
  } finally {
    follower.close();
  }
}

/** How an attempt stands, for whoever reads its log. */
export async function attemptState(queues: Queues, log: LogId): Promise<AttemptState> {
  // Asked at every wake-up of every follower.
  if (await isAttemptOpen(queues.redis, log)) return 'open';
  const record = await readRecord(queues.redis, log.run);
  if (record === null) return 'ended';
  if (record.result !== null) return record.result.attempt === log.attempt && record.result.claim === log.claim ? record.result : 'ended';
  const attempt = record.attempts.find((one) => one.number === log.attempt && one.claim === log.claim);
  return attempt !== undefined && attempt.outcome === null && record.attempts.at(-1) === attempt ? 'open' : 'ended';
}

/** Whether an attempt is the newest of its run and has no end: a few fields tell, of a record that may be large. */
async function isAttemptOpen(redis: Redis, { run, attempt, claim }: LogId): Promise<boolean> {
  const [newest, start, end, result] = await redis.hmget(keys.run(run), 'n', `a${attempt}`, `e${attempt}`, 'result');
  if (Number(newest) !== attempt || end !== null || result !== null) return false;
  return AttemptStart.parse(JSON.parse(start ?? 'null')).claim === claim;
}

function nextLog(record: RunRecord, shown: number, wanted: number | null): LogId | null {
  const newest = record.result?.attempt ?? record.attempts.at(-1)?.number ?? 0;
  // Who has seen one sees those that follow it, however many began while it was read.
  const number = wanted ?? (shown > 0 ? Math.min(shown + 1, newest) : newest);
  const attempt = record.attempts.find((one) => one.number === number);
  if (attempt === undefined || (wanted === null && number <= shown)) return null;
  return { run: record.spec.id, attempt: number, claim: attempt.claim };
}

function endOf({ log: { lines, bytes, sha256 }, outcome }: RunResult): Buffer {
  const record: LogEnd = { end: { lines, bytes, sha256, outcome } };
  return Buffer.from(`${JSON.stringify(record)}\n`);
}
