/** The locks that a worker holds on its runs: renewed by a clock that only goes on, taken again where they ran out. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Job } from 'bullmq';
import { limits } from '../job/limits.ts';
import type { RunRecord } from '../job/run.ts';
import type { Redis } from '../redis/connection.ts';
import { bullActiveKey, bullLockKey, bullWaitKey, keys, runQueue } from '../redis/keys.ts';
import { runScript } from '../redis/script.ts';
import { oneLine } from '../service/errors.ts';
import type { Logger } from '../service/logger.ts';
import { handOverScript, retakeScript } from './record-scripts.ts';
import { restoreRun } from './records.ts';

/** A job that this worker was handed. */
export interface Held {
  id: string;
  job: Job;
  token: string;
  /** Aborted when the lock is lost for good: somebody else may have the run. */
  lost: AbortController;
}

export interface Locks {
  /** Keeps the lock of a job from now on; null where this worker executes its run already and has the lock for that again. */
  add(job: Omit<Held, 'lost'>): Promise<Held | null>;
  remove(held: Held): void;
  stop(): void;
}

export interface LocksOptions {
  connection: Redis;
  platform: string;
  logger: Logger;
  /** The attempt and claim that this worker has open on a run; null before the claim. */
  claimOf: (id: string) => { attempt: number; claim: string; record: RunRecord } | null;
  /** Extends locks, and names those that it could not. */
  extend: (ids: string[], tokens: string[]) => Promise<string[]>;
}

export function keepLocks(o: LocksOptions): Locks {
  const all = new Map<string, Held>();
  /** Those that are being handed over to the attempt that this worker has open. */
  const handingOver = new Map<string, Promise<boolean>>();
  /** To be asked where Redis has just refused a lock: an answer with the job, if there was one, came first, but passes through more promises. */
  const isHandedOver = async (id: string): Promise<boolean> => {
    await nextTurn();
    return (await handingOver.get(id)) === true;
  };
  const debug = (cause: unknown): void => o.logger.debug({ platform: o.platform, error: oneLine(cause) }, 'lock');
  const round = async (): Promise<void> => {
    const held = [...all.values()];
    if (held.length === 0) return;
    const expired = await o.extend(
      held.map(({ id }) => id),
      held.map(({ token }) => token),
    );
    // What came to a new lock meanwhile has it.
    const lapsed = held.filter((one) => expired.includes(one.id) && all.get(one.id) === one);
    await Promise.all(lapsed.map((one) => retake(o, one, isHandedOver).catch(debug)));
  };
  let stopped = false;
  // A round begins when the one before is done, so that an outage leaves one behind.
  let timer = setTimeout(function again(): void {
    round()
      .catch(debug)
      .finally(() => {
        if (!stopped) timer = setTimeout(again, limits.lockRenewMs);
      });
  }, limits.lockRenewMs);
  return {
    add: async (job) => {
      const former = all.get(job.id);
      // Where Redis does not tell, the attempt that is open takes the lock again once this one has run out.
      const unknown = (cause: unknown): true => {
        debug(cause);
        return true;
      };
      if (former !== undefined) {
        const handing = handOver(o, former, job.token).catch(unknown);
        handingOver.set(job.id, handing);
        const isMine = await handing.finally(() => handingOver.delete(job.id));
        if (isMine) return null;
        former.lost.abort('superseded');
      }
      const held = { ...job, lost: new AbortController() };
      all.set(job.id, held);
      return held;
    },
    remove: (held) => {
      if (all.get(held.id) === held) all.delete(held.id);
    },
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** Gives a Redis that came back empty the run again. */
export async function restoreHeld(redis: Redis, logger: Logger, { job, token }: Held, record: RunRecord): Promise<void> {
  const { name, data, opts } = job;
  const answer = await restoreRun(redis, record, { token, name, data, opts });
  if (answer === 'restored') logger.warn({ run: record.spec.id }, 'Redis had lost this run while it is executed; it has it again');
}

/**
 * A worker that was suspended takes its own run from the queue, since a server has taken it for dead: the attempt that it has open gets
 * the lock, unless somebody else was there in between.
 */
async function handOver(o: LocksOptions, { id, token }: Held, given: string): Promise<boolean> {
  const claim = o.claimOf(id);
  if (claim === null) return false;
  const lock = bullLockKey(runQueue(o.platform), id);
  const args = [given, token, claim.attempt, claim.claim, limits.lockDurationMs];
  return (await runScript(o.connection, handOverScript, [keys.run(id), lock], args)) === 1;
}

/** An expired lock is not a lost run: it is taken again unless somebody else has the run by now, who may be this very worker. */
async function retake(o: LocksOptions, held: Held, isHandedOver: (id: string) => Promise<boolean>): Promise<void> {
  const { id, token, lost } = held;
  const claim = o.claimOf(id);
  if (claim === null) return;
  const queue = runQueue(o.platform);
  const answer = await runScript(
    o.connection,
    retakeScript,
    [keys.run(id), bullLockKey(queue, id), bullActiveKey(queue), bullWaitKey(queue)],
    [id, token, claim.attempt, claim.claim, limits.lockDurationMs],
  );
  if (answer === 0 && !(await isHandedOver(id))) lost.abort('superseded');
  // A Redis that has lost everything refuses nothing: the attempt goes on, and is known again.
  if (answer === -1) await restoreHeld(o.connection, o.logger, held, claim.record);
}
