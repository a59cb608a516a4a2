/** The story of one delivery: claim the run, execute an attempt, store what it left, commit the result. */
import { randomBytes } from 'node:crypto';
import { EMPTY_LOG } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import type { RunRecord, RunResult } from '../src/job/run.ts';
import { sealLog } from '../src/logs/seal.ts';
import type { Delivery, Handled } from '../src/queue/consume.ts';
import { type AttemptEnd, claimAttempt, closeAttempt, commitResult, readRecord } from '../src/queue/records.ts';
import { wakeFollowers } from '../src/redis/wake.ts';
import { oneLine } from '../src/service/errors.ts';
import { pause } from '../src/service/lifecycle.ts';
import { type AttemptResult, runAttempt } from './attempt.ts';
import { refusal } from './attempt-ending.ts';
import { retryDelayMs } from './retry.ts';
import type { OpenAttempt, WorkerContext } from './worker-context.ts';

/** Resolves when BullMQ may be told; rejects only when Redis refuses what builder asks of it. */
export async function runJob(worker: WorkerContext, delivery: Delivery): Promise<Handled> {
  const start = { claim: randomBytes(8).toString('hex'), worker: worker.workerName, startedAt: new Date().toISOString() };
  const claim = await claimAttempt(worker.redis, { ...delivery, start });
  switch (claim.kind) {
    case 'gone':
      return { kind: 'gone' };
    case 'unlocked':
      return { kind: 'back' };
    case 'adopt':
      return { kind: 'result', result: claim.result };
    case 'cancel':
      return endUnstarted(worker, delivery, { attempt: claim.attempt, outcome: 'cancelled' });
    case 'dead':
      return afterDeaths(worker, delivery, claim);
    case 'run': {
      const record = await readRecord(worker.redis, delivery.id);
      if (record === null) return { kind: 'gone' };
      await wakeFollowers(worker.redis, delivery.id);
      sealFormer(worker, record);
      return runClaimed(worker, delivery, { spec: record.spec, attempt: claim.attempt, retries: claim.retries, ...start });
    }
  }
}

async function runClaimed(worker: WorkerContext, delivery: Delivery, open: OpenAttempt): Promise<Handled> {
  const cancel = new AbortController();
  worker.running.add(delivery.id, { attempt: open.attempt, claim: open.claim, cancel });
  try {
    const result = await runAttempt(worker, open, { cancel: cancel.signal, lost: delivery.lost });
    switch (result.kind) {
      case 'ended':
        return await commitEnd(worker, delivery, open, result);
      case 'interrupted':
        await closeAs(worker, open, 'interrupted');
        return { kind: 'back' };
      case 'fault':
        return await afterFault(worker, delivery, open, result.cause);
    }
  } finally {
    worker.running.remove(delivery.id);
  }
}

async function commitEnd(
  worker: WorkerContext,
  delivery: Delivery,
  open: OpenAttempt,
  ended: Extract<AttemptResult, { kind: 'ended' }>,
): Promise<Handled> {
  const { ending, log, artifactCount } = ended;
  const { outcome, exitCode, signal, killed } = ending;
  const finishedAt = new Date().toISOString();
  const result: RunResult = {
    outcome,
    exitCode,
    signal,
    reason: ending.reason?.slice(0, limits.reasonCharsMax) ?? null,
    attempt: open.attempt,
    claim: open.claim,
    attemptsMade: delivery.attemptsMade,
    finishedAt,
    log,
    artifactCount,
  };
  const end: AttemptEnd = { finishedAt, outcome, exitCode, signal, killed };
  const delayMs = retryDelayMs(open.spec, open.retries, outcome);
  if (delayMs !== null && (await closeForRetry(worker, open, end))) return { kind: 'back', delayMs };
  const answer = await commitResult(worker.redis, {
    spec: open.spec,
    token: delivery.token,
    attempt: open.attempt,
    claim: open.claim,
    result,
    end,
  });
  if (answer === 'committed') {
    await wakeFollowers(worker.redis, delivery.id);
    return { kind: 'result', result };
  }
  worker.logger.warn({ run: delivery.id, attempt: open.attempt, answer }, 'another attempt counts; this one is kept as superseded');
  const record = await readRecord(worker.redis, delivery.id);
  return record?.result == null ? { kind: 'back' } : { kind: 'result', result: record.result };
}

/** False where another attempt counts by now. */
async function closeForRetry(
  worker: WorkerContext,
  { spec, attempt, claim }: Omit<OpenAttempt, 'startedAt'>,
  end: AttemptEnd,
): Promise<boolean> {
  const counted = await closeAttempt(worker.redis, { id: spec.id, attempt, claim, end, count: 'retries' });
  await wakeFollowers(worker.redis, spec.id);
  return counted >= 0;
}

/** Too many workers died while they ran it: it is lost, unless its policy retries that too. */
async function afterDeaths(
  worker: WorkerContext,
  delivery: Delivery,
  { attempt, retries }: { attempt: number; retries: number },
): Promise<Handled> {
  const record = await readRecord(worker.redis, delivery.id);
  const last = record?.attempts.at(-1);
  const delayMs = record === null ? null : retryDelayMs(record.spec, retries, 'lost');
  if (record !== null && last !== undefined && delayMs !== null) {
    const end: AttemptEnd = { finishedAt: new Date().toISOString(), outcome: 'superseded', exitCode: null, signal: null, killed: [] };
    if (await closeForRetry(worker, { spec: record.spec, attempt, claim: last.claim, retries }, end)) return { kind: 'back', delayMs };
  }
  return endUnstarted(worker, delivery, { attempt, outcome: 'lost' });
}

/** Ends a run that shall not be started (again): asked to be cancelled while it waited, or the death of too many workers. */
async function endUnstarted(
  worker: WorkerContext,
  delivery: Delivery,
  o: { attempt: number; outcome: 'cancelled' | 'lost' },
): Promise<Handled> {
  const record = await readRecord(worker.redis, delivery.id);
  if (record === null) return { kind: 'gone' };
  const last = record.attempts.at(-1);
  const result: RunResult = {
    outcome: o.outcome,
    exitCode: null,
    signal: null,
    reason: o.outcome === 'cancelled' ? `cancelled: ${record.cancel?.reason ?? 'asked for'}` : lostReason(record),
    attempt: o.attempt,
    claim: last?.claim ?? null,
    attemptsMade: delivery.attemptsMade,
    finishedAt: new Date().toISOString(),
    log:
      last === undefined
        ? EMPTY_LOG
        : await sealLog(worker.redis, worker.store, { run: delivery.id, attempt: last.number, claim: last.claim }),
    artifactCount: 0,
  };
  await commitResult(worker.redis, {
    spec: record.spec,
    token: delivery.token,
    attempt: o.attempt,
    claim: result.claim,
    result,
    end: null,
  });
  await wakeFollowers(worker.redis, delivery.id);
  return { kind: 'result', result };
}

/** The log of an attempt whose worker died lies in Redis alone; in the background, since the next attempt waits for nobody. */
function sealFormer(worker: WorkerContext, { spec, attempts }: RunRecord): void {
  const former = attempts.at(-2);
  if (former === undefined || former.outcome === 'interrupted') return;
  sealLog(worker.redis, worker.store, { run: spec.id, attempt: former.number, claim: former.claim }).catch((cause) =>
    worker.logger.warn(
      { run: spec.id, attempt: former.number, error: oneLine(cause) },
      'the log of a superseded attempt could not be kept',
    ),
  );
}

/** A fault of builder before the script started: the run goes back, a bounded number of times. */
async function afterFault(worker: WorkerContext, delivery: Delivery, open: OpenAttempt, cause: unknown): Promise<Handled> {
  worker.logger.error({ run: delivery.id, attempt: open.attempt, error: oneLine(cause) }, 'the run could not be prepared');
  const faults = await closeAs(worker, open, 'interrupted', 'faults');
  if (faults >= limits.faultsMax) {
    const ending = refusal('cannot-prepare', `${faults} attempts could not prepare its folder, the last: ${oneLine(cause)}`);
    return commitEnd(worker, delivery, open, { kind: 'ended', ending, log: EMPTY_LOG, artifactCount: 0 });
  }
  await pause(limits.faultPauseMs * 2 ** faults, worker.forcing);
  return { kind: 'back' };
}

function closeAs(worker: WorkerContext, open: OpenAttempt, outcome: 'interrupted', count?: 'faults'): Promise<number> {
  const end: AttemptEnd = { finishedAt: new Date().toISOString(), outcome, exitCode: null, signal: null, killed: [] };
  return closeAttempt(worker.redis, {
    id: open.spec.id,
    attempt: open.attempt,
    claim: open.claim,
    end,
    ...(count === undefined ? {} : { count }),
  });
}

function lostReason(record: RunRecord): string {
  const workers = record.attempts.filter((one) => one.outcome === 'superseded').map((one) => one.worker);
  return `worker-died: ${workers.length} workers died while running it (${[...new Set(workers)].join(', ')})`;
}
