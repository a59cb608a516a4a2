/** Taking runs of a platform from BullMQ, and giving back its answer once a result is committed. */

import { EMPTY_LOG } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import { RUN_ID_PATTERN } from '../job/names.ts';
import type { RunRecord, RunResult } from '../job/run.ts';
import { isRedisAway, type Redis } from '../redis/connection.ts';
import { BULL_PREFIX, bullActiveKey, bullLockKey, runQueue } from '../redis/keys.ts';
import { runScript } from '../redis/script.ts';
import { oneLine } from '../service/errors.ts';
import type { Logger } from '../service/logger.ts';
import { type Job, Worker } from './bullmq.ts';
import { bullFailure } from './cancel.ts';
import { keepLocks, type Locks, restoreHeld } from './locks.ts';
import { holdScript } from './record-scripts.ts';
import { delayRun } from './retries.ts';
import { takeJobs } from './take-jobs.ts';

/** A run that BullMQ handed to this worker, under a lock that is renewed while `handle` has not resolved. */
export interface Delivery {
  id: string;
  platform: string;
  token: string;
  attemptsMade: number;
  /** Aborted when the lock is lost for good: somebody else may have the run. */
  lost: AbortSignal;
  /** Gives a Redis that came back empty the run again. */
  restore(record: RunRecord): Promise<void>;
}

/** `result`: committed or adopted. `back`: somebody shall take it again, at once or after a delay. `gone`: there is no such run. */
export type Handled = { kind: 'result'; result: RunResult } | { kind: 'back'; delayMs?: number } | { kind: 'gone' };

export interface ConsumeOptions {
  connection: Redis;
  platform: string;
  concurrency: number;
  workerName: string;
  logger: Logger;
  handle: (delivery: Delivery) => Promise<Handled>;
  /** The attempt and claim that this worker has open on a run, for taking an expired lock again; null before the claim. */
  claimOf: (id: string) => { attempt: number; claim: string; record: RunRecord } | null;
}

export interface Consumer {
  /** How many runs it may have from now on; with 0 it goes on with those it has, and takes none. */
  bound(most: number): void;
  /** Takes nothing new and resolves when every delivery is handled. */
  close(): Promise<void>;
}

export function consumeRuns(o: ConsumeOptions): Consumer {
  const worker: Worker = new Worker(runQueue(o.platform), null, {
    connection: o.connection,
    prefix: BULL_PREFIX,
    name: o.workerName,
    lockDuration: limits.lockDurationMs,
    drainDelay: limits.queueWaitMs / 1_000,
    removeOnComplete: { count: limits.boardFinishedJobsMax },
    removeOnFail: { count: limits.boardFinishedJobsMax },
  });
  // BullMQ's own renewal waits for the wall clock to go on, and would stop for as long as that went back.
  const locks = keepLocks({ ...o, extend: (ids, tokens) => worker.extendJobLocks(ids, tokens, limits.lockDurationMs) });
  const onFault = (cause: unknown): void => o.logger.debug({ platform: o.platform, error: oneLine(cause) }, 'queue');
  worker.on('error', onFault);
  const jobs = takeJobs({ worker, most: o.concurrency, handle: (job, token) => deliver(o, locks, worker, job, token), onFault });
  return {
    bound: jobs.bound,
    close: async () => {
      await jobs.close();
      locks.stop();
    },
  };
}

/** Never rejects: what BullMQ could not be told a server finds once the job's lock has run out. */
async function deliver(o: ConsumeOptions, locks: Locks, worker: Worker, job: Job, token: string): Promise<void> {
  try {
    const result = RUN_ID_PATTERN.test(job.id ?? '')
      ? await resultOf(o, locks, worker, job, token)
      : { ...RUBBISH, reason: 'rubbish: this job was not made by builder' };
    if (result !== null) await finish(job, token, result);
  } catch (cause) {
    o.logger.debug({ run: job.id ?? '', error: oneLine(cause) }, 'BullMQ was not told');
  }
}

/** Null where the run goes on elsewhere, or has gone back. */
async function resultOf(o: ConsumeOptions, locks: Locks, worker: Worker, job: Job, token: string): Promise<RunResult | null> {
  const id = job.id ?? '';
  const mine = await locks.add({ id, job, token });
  // This very worker has it, and goes on with it.
  if (mine === null) return null;
  try {
    const { attemptsMade } = job;
    const restore = (record: RunRecord): Promise<void> => restoreHeld(o.connection, o.logger, mine, record);
    const handled = await handle(o, { id, platform: o.platform, token, attemptsMade, lost: mine.lost.signal, restore });
    switch (handled.kind) {
      case 'back':
        if (handled.delayMs === undefined) await giveBack(worker, o, job, token);
        else await delay(o, job, token, handled.delayMs);
        return null;
      case 'gone':
        return { ...RUBBISH, reason: 'rubbish: there is no run of this id' };
      case 'result':
        return handled.result;
    }
  } finally {
    locks.remove(mine);
  }
}

/** Tells BullMQ how the job ended, once Redis hears. */
async function finish(job: Job, token: string, result: RunResult): Promise<void> {
  const { outcome, attempt } = result;
  for (;;) {
    try {
      if (outcome === 'succeeded') await job.moveToCompleted({ outcome, attempt }, token, false);
      else await job.moveToFailed(bullFailure(result), token, false);
      return;
    } catch (cause) {
      if (!isRedisAway(cause)) throw cause;
      await new Promise((resolve) => setTimeout(resolve, limits.faultPauseMs));
    }
  }
}

/** A fault of builder is no end of the run: without this the job would stay active until its lock has run out. */
async function handle(o: ConsumeOptions, delivery: Delivery): Promise<Handled> {
  try {
    return await o.handle(delivery);
  } catch (cause) {
    o.logger.error({ run: delivery.id, error: oneLine(cause) }, 'a run could not be handled; it goes back');
    await new Promise((resolve) => setTimeout(resolve, limits.faultPauseMs));
    return { kind: 'back' };
  }
}

const RUBBISH: RunResult = {
  outcome: 'refused',
  exitCode: null,
  signal: null,
  reason: null,
  attempt: 0,
  claim: null,
  attemptsMade: 0,
  finishedAt: '1970-01-01T00:00:00.000Z',
  log: EMPTY_LOG,
  artifactCount: 0,
};

/** A server starts the run when it is due; BullMQ, which would compare the clocks of two workers, only where no server does. */
async function delay(o: ConsumeOptions, job: Job, token: string, delayMs: number): Promise<void> {
  const [id, queue] = [job.id ?? '', runQueue(o.platform)];
  await delayRun(o.connection, id, delayMs);
  await runScript(o.connection, holdScript, [bullLockKey(queue, id), bullActiveKey(queue)], [id, token, limits.lockDurationMs]);
  await job.moveToDelayed(Date.now() + delayMs + limits.retryUnattendedMs, token);
}

/** Puts a run back unharmed. BullMQ arms no marker for a prioritized job then, so an idle worker would sleep on: arm it. */
async function giveBack(worker: Worker, o: ConsumeOptions, job: Job, token: string): Promise<void> {
  try {
    await job.moveToWait(token);
  } catch (cause) {
    // Somebody else has it, or Redis refuses: then a server queues it again once its lock has run out.
    o.logger.debug({ run: job.id ?? '', error: oneLine(cause) }, 'not given back');
    return;
  }
  await o.connection.zadd(worker.toKey('marker'), 0, '0').catch(() => undefined);
}
