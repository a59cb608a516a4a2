/** Cancelling and deliberate retrying: durable marks first, then whatever makes them quick. */

import { EMPTY_LOG } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import type { Run, RunRecord, RunResult, RunSpec } from '../job/run.ts';
import { bullLockKey, keys, runQueue } from '../redis/keys.ts';
import { runScript } from '../redis/script.ts';
import { wakeFollowers } from '../redis/wake.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { UnrecoverableError } from './bullmq.ts';
import { platformQueue, type Queues } from './queues.ts';
import { reopenScript, requestCancelScript } from './record-scripts.ts';
import { commitResult, createRecord, readRecord } from './records.ts';
import { wasSilent } from './served.ts';
import { enqueue } from './submit.ts';
import { getRun } from './view.ts';

/** No redelivery is newer than what a server commits; a deliberate retry reopens the record first. */
export const ADOPTED_ALWAYS = 1_000_000;

/**
 * Asks for a run to be cancelled; the mark is durable and shown at once. A waiting run ends before this resolves, a running one
 * when its worker hears of it or, if the worker is dead, within about one lock duration. Throws `not-found` and, for a finished run, `conflict`.
 */
export async function requestCancel(queues: Queues, id: string, reason: string | null): Promise<Run> {
  const answer = await mark(queues, id, reason);
  if (answer === 'gone') throw new BuilderError('not-found', `no such run: ${id}`);
  if (answer === 'finished') throw new BuilderError('conflict', `expected a run that is not finished, got ${id}, which has ended`);
  await goOn(queues, id);
  return getRun(queues, id);
}

/** For one of many, which others see to meanwhile: one that has ended, or is gone, is left as it is. */
export async function cancelIfOpen(queues: Queues, id: string, reason: string): Promise<void> {
  if ((await mark(queues, id, reason)) === 'requested') await goOn(queues, id);
}

/** So is one that a worker has begun since it was seen to wait; one that a worker has taken, and not begun, is not. */
export async function cancelIfWaiting(queues: Queues, platform: string, id: string, reason: string): Promise<void> {
  const lock = bullLockKey(runQueue(platform), id);
  if ((await mark(queues, id, reason, { unlessBegunUnder: lock })) === 'requested') await goOn(queues, id);
}

async function isHeld(queues: Queues, platform: string, id: string): Promise<boolean> {
  return (await queues.redis.exists(bullLockKey(runQueue(platform), id))) === 1;
}

async function mark(queues: Queues, id: string, reason: string | null, o: { unlessBegunUnder?: string } = {}): Promise<unknown> {
  const request = JSON.stringify({ requestedAt: new Date().toISOString(), reason });
  const lock = o.unlessBegunUnder === undefined ? [] : [o.unlessBegunUnder];
  return runScript(queues.redis, requestCancelScript, [keys.run(id), keys.cancelling, ...lock], [id, request]);
}

async function goOn(queues: Queues, id: string): Promise<void> {
  await queues.redis.publish(keys.cancelChannel, id);
  // The store may be away just now: the mark is durable, and every server goes on with it.
  await settleCancel(queues, id).catch((cause: unknown) => queues.logger.warn({ run: id, error: oneLine(cause) }, 'a cancellation waits'));
}

/**
 * Accepts a run, short of queueing it, and asks for the open runs of its job on its platform that were accepted before it to be cancelled.
 * A run that is known and has ended, or is asked to be cancelled itself, takes nobody's place. Throws `platform-dropped`.
 */
export async function takePlace(queues: Queues, spec: RunSpec, reason: string): Promise<void> {
  const { id, job, platform } = spec;
  if (job === null) return;
  if ((await createRecord(queues.redis, spec)) === 'known') {
    const record = await readRecord(queues.redis, id);
    if (record === null || record.result !== null || record.cancel !== null) return;
  }
  const open = await queues.redis.zrange(keys.openRunsOfJob(platform, job), '0', '-1');
  const [own, ...orders] = await queues.redis.zmscore(keys.runs, [id, ...open]);
  for (const [n, other] of open.entries()) {
    if (Number(orders[n]) >= Number(own)) continue;
    await cancelIfOpen(queues, other, reason);
  }
}

/** Ends a run that is asked to be cancelled and that no worker holds; leaves alone one whose worker is alive. */
export async function settleCancel(queues: Queues, id: string): Promise<void> {
  const record = await readRecord(queues.redis, id);
  if (record === null || record.result !== null || record.cancel === null) {
    await queues.redis.zrem(keys.cancelling, id);
    return;
  }
  if (await isHeld(queues, record.spec.platform, id)) return;
  const last = record.attempts.at(-1);
  const isOpen = last !== undefined && last.outcome === null;
  // Its worker may live, and have had no chance to renew its lock.
  if (isOpen && (await wasSilent(queues))) return;
  const result = await cancelledResult(queues, record);
  const end = { finishedAt: result.finishedAt, outcome: 'superseded' as const, exitCode: null, signal: null, killed: [] };
  const committed = await commitResult(queues.redis, {
    spec: record.spec,
    token: '',
    attempt: record.attempts.length,
    claim: last?.claim ?? null,
    result,
    end: isOpen ? end : null,
  });
  if (committed === 'superseded') return;
  // A job that a worker took at this very moment stays: its claim finds the result and adopts it.
  await platformQueue(queues, record.spec.platform)
    .remove(id)
    .catch(() => undefined);
  await wakeFollowers(queues.redis, id);
}

/** Runs a finished run again as its next attempt, as the board's retry button asks; throws `conflict` for one that has not ended. */
export async function retryRun(queues: Queues, id: string): Promise<void> {
  const record = await readRecord(queues.redis, id);
  if (record === null) throw new BuilderError('not-found', `no such run: ${id}`);
  if (record.result === null) throw new BuilderError('conflict', `expected a run that has ended, got ${id}`);
  const { platform, job } = record.spec;
  const open = [keys.openRuns(platform), keys.openRunsOfJob(platform, job ?? '')];
  const changed = [keys.run(id), keys.runsOfOutcome(record.result.outcome), keys.accepting, ...open];
  const answer = await runScript(queues.redis, reopenScript, changed, [id, job ?? '']);
  if (answer === 'reopened') await requeue(queues, record);
}

/** Puts the BullMQ job of an open run where a worker finds it: a finished one is retried, a missing one added. */
export async function requeue(queues: Queues, record: RunRecord): Promise<void> {
  const job = await platformQueue(queues, record.spec.platform).getJob(record.spec.id);
  const state = job === undefined ? 'unknown' : await job.getState();
  if (job !== undefined && (state === 'failed' || state === 'completed')) await job.retry(state);
  await enqueue(queues, [record.spec]);
}

/** How a run's end is shown on the board: every outcome but `succeeded` is a failed job that BullMQ must not try again. */
export function bullFailure(result: RunResult): Error {
  const detail = result.reason ?? result.signal ?? `exit code ${result.exitCode}`;
  return new UnrecoverableError(detail.startsWith(`${result.outcome}:`) ? detail : `${result.outcome}: ${detail}`);
}

/** Of a run that no worker holds; an attempt that its worker did not end itself may live on somewhere. */
export function cancelledReason({ cancel, attempts }: RunRecord): string {
  const last = attempts.at(-1);
  const isSilent = last !== undefined && (last.outcome === null || last.outcome === 'superseded');
  const unconfirmed = isSilent ? '; its worker is silent, so the end of its processes is not confirmed' : '';
  return `cancelled: ${cancel?.reason ?? 'asked for'}`.slice(0, limits.reasonCharsMax - unconfirmed.length) + unconfirmed;
}

async function cancelledResult(queues: Queues, record: RunRecord): Promise<RunResult> {
  const last = record.attempts.at(-1);
  return {
    outcome: 'cancelled',
    exitCode: null,
    signal: null,
    reason: cancelledReason(record),
    attempt: record.attempts.length,
    claim: last?.claim ?? null,
    attemptsMade: ADOPTED_ALWAYS,
    finishedAt: new Date().toISOString(),
    log: last === undefined ? EMPTY_LOG : await queues.sealLog({ run: record.spec.id, attempt: last.number, claim: last.claim }),
    artifactCount: 0,
  };
}
