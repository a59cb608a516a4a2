/** The story of one delivery: claim the run, execute an attempt, store what it left, commit the result. */
import { randomBytes } from 'node:crypto';
import { EMPTY_LOG } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import type { RunRecord, RunResult } from '../src/job/run.ts';
import { sealLog } from '../src/logs/seal.ts';
import { cancelledReason } from '../src/queue/cancel.ts';
import type { Delivery, Handled } from '../src/queue/consume.ts';
import { type AttemptEnd, claimAttempt, closeAttempt, commitResult, readRecord } from '../src/queue/records.ts';
import { wakeFollowers } from '../src/redis/wake.ts';
import { oneLine } from '../src/service/errors.ts';
import { joinSignals } from '../src/service/joined-signal.ts';
import { pause } from '../src/service/lifecycle.ts';
import { runAttempt } from './attempt.ts';
import { refusal } from './attempt-ending.ts';
import type { AttemptResult } from './attempt-result.ts';
import { patiently } from './patience.ts';
import { retryDelayMs } from './retry.ts';
import type { OpenAttempt, WorkerContext } from './worker-context.ts';

/**
 * Resolves when BullMQ may be told; rejects only when the worker is forced to end meanwhile. `onExecuted` is called once where a script has run, when
 * it and all that it started have ended: what follows takes no processor's time of scripts.
 */
export async function runJob(worker: WorkerContext, delivery: Delivery, onExecuted: () => void): Promise<Handled> {
  const start = { claim: randomBytes(8).toString('hex'), worker: worker.workerName, startedAt: new Date().toISOString() };
  const { id, platform, token, attemptsMade } = delivery;
  const claim = await patient(worker, delivery, () => claimAttempt(worker.redis, { id, platform, token, attemptsMade, start }));
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
      const { record, attempt, retries } = claim;
      wake(worker, delivery);
      sealFormer(worker, record);
      return runClaimed(worker, delivery, { spec: record.spec, attempt, retries, record, ...start }, onExecuted);
    }
  }
}

async function runClaimed(worker: WorkerContext, delivery: Delivery, open: OpenAttempt, onExecuted: () => void): Promise<Handled> {
  const cancel = new AbortController();
  const running = { attempt: open.attempt, claim: open.claim, record: open.record, cancel, executed: false };
  worker.running.add(delivery.id, running);
  const stop = joinSignals([cancel.signal, delivery.lost, worker.forcing]);
  try {
    const signals = { cancel: cancel.signal, lost: delivery.lost, any: stop.signal };
    return await runAttempt(worker, open, signals, {
      onExecuted: () => {
        running.executed = true;
        onExecuted();
      },
      settle: (result) => settle(worker, delivery, open, result),
    });
  } finally {
    stop.release();
    worker.running.remove(delivery.id, open.claim);
  }
}

async function settle(worker: WorkerContext, delivery: Delivery, open: OpenAttempt, result: AttemptResult): Promise<Handled> {
  switch (result.kind) {
    case 'ended':
      return commitEnd(worker, delivery, open, result);
    case 'superseded':
      await closeAs(worker, open, 'superseded');
      return resultOfOther(worker, delivery);
    case 'interrupted':
      await closeAs(worker, open, 'interrupted');
      return { kind: 'back' };
    case 'fault':
      return afterFault(worker, delivery, open, result.cause);
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
  const commit = { spec: open.spec, token: delivery.token, attempt: open.attempt, claim: open.claim, result, end };
  const answer = await patient(worker, delivery, async () => {
    const first = await commitResult(worker.redis, commit);
    if (first !== 'gone') return first;
    await delivery.restore(open.record);
    return commitResult(worker.redis, commit);
  });
  if (answer === 'committed') {
    wake(worker, delivery);
    return { kind: 'result', result };
  }
  worker.logger.warn({ run: delivery.id, attempt: open.attempt, answer }, 'another result counts; this attempt is kept as superseded');
  await closeAs(worker, open, 'superseded');
  return resultOfOther(worker, delivery);
}

/** What another attempt, or a server, has committed; while nobody has, the run is theirs. */
async function resultOfOther(worker: WorkerContext, delivery: Delivery): Promise<Handled> {
  const record = await patient(worker, delivery, () => readRecord(worker.redis, delivery.id));
  return record?.result == null ? { kind: 'back' } : { kind: 'result', result: record.result };
}

/** False where another attempt counts by now. */
async function closeForRetry(
  worker: WorkerContext,
  { spec, attempt, claim }: Pick<OpenAttempt, 'spec' | 'attempt' | 'claim'>,
  end: AttemptEnd,
): Promise<boolean> {
  const counted = await patient(worker, spec, () => closeAttempt(worker.redis, { id: spec.id, attempt, claim, end, count: 'retries' }));
  wake(worker, spec);
  return counted >= 0;
}

/** Too many workers died while they ran it: it is lost, unless its policy retries that too. */
async function afterDeaths(
  worker: WorkerContext,
  delivery: Delivery,
  { attempt, retries }: { attempt: number; retries: number },
): Promise<Handled> {
  const record = await patient(worker, delivery, () => readRecord(worker.redis, delivery.id));
  const last = record?.attempts.at(-1);
  const delayMs = record === null ? null : retryDelayMs(record.spec, retries, 'lost');
  if (record !== null && last !== undefined && delayMs !== null) {
    const end: AttemptEnd = { finishedAt: new Date().toISOString(), outcome: 'superseded', exitCode: null, signal: null, killed: [] };
    if (await closeForRetry(worker, { spec: record.spec, attempt, claim: last.claim }, end)) return { kind: 'back', delayMs };
  }
  return endUnstarted(worker, delivery, { attempt, outcome: 'lost' });
}

/** Ends a run that shall not be started (again): asked to be cancelled while it waited, or the death of too many workers. */
async function endUnstarted(
  worker: WorkerContext,
  delivery: Delivery,
  o: { attempt: number; outcome: 'cancelled' | 'lost' },
): Promise<Handled> {
  const record = await patient(worker, delivery, () => readRecord(worker.redis, delivery.id));
  if (record === null) return { kind: 'gone' };
  const last = record.attempts.at(-1);
  const result: RunResult = {
    outcome: o.outcome,
    exitCode: null,
    signal: null,
    reason: o.outcome === 'cancelled' ? cancelledReason(record) : lostReason(record),
    attempt: o.attempt,
    claim: last?.claim ?? null,
    attemptsMade: delivery.attemptsMade,
    finishedAt: new Date().toISOString(),
    log:
      last === undefined
        ? EMPTY_LOG
        : await patient(worker, delivery, () =>
            sealLog(worker.redis, worker.store, { run: delivery.id, attempt: last.number, claim: last.claim }),
          ),
    artifactCount: 0,
  };
  const commit = { spec: record.spec, token: delivery.token, attempt: o.attempt, claim: result.claim, result, end: null };
  await patient(worker, delivery, () => commitResult(worker.redis, commit));
  wake(worker, delivery);
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
    const ending = refusal('cannot-prepare', `${faults} attempts could not be made, the last: ${oneLine(cause)}`);
    return commitEnd(worker, delivery, open, { kind: 'ended', ending, log: EMPTY_LOG, artifactCount: 0 });
  }
  await pause(limits.faultPauseMs * 2 ** faults, worker.forcing);
  return { kind: 'back' };
}

/** Redis that refuses for a while is no end of the run. */
function patient<T>(worker: WorkerContext, { id }: { id: string }, work: () => Promise<T>): Promise<T> {
  return patiently({ run: id, logger: worker.logger, until: worker.forcing }, work);
}

/** Only makes followers look sooner: nobody waits for it. */
function wake(worker: WorkerContext, { id }: { id: string }): void {
  wakeFollowers(worker.redis, id).catch(() => undefined);
}

function closeAs(worker: WorkerContext, open: OpenAttempt, outcome: 'interrupted' | 'superseded', count?: 'faults'): Promise<number> {
  const end: AttemptEnd = { finishedAt: new Date().toISOString(), outcome, exitCode: null, signal: null, killed: [] };
  const closing = { id: open.spec.id, attempt: open.attempt, claim: open.claim, end, ...(count === undefined ? {} : { count }) };
  return patient(worker, open.spec, () => closeAttempt(worker.redis, closing));
}

function lostReason(record: RunRecord): string {
  const workers = record.attempts.filter((one) => one.outcome === 'superseded').map((one) => one.worker);
  return `worker-died: ${workers.length} workers died while running it (${[...new Set(workers)].join(', ')})`;
}
