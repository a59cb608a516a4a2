/**
 * Asking BullMQ for jobs, and handing out each as soon as it is there: several questions at a time while the queue has some, one that waits while it
 * has none. (BullMQ's own loop asks for one after the other, and hands out the first when it has the last.)
 */
import { randomUUID } from 'node:crypto';
import { limits } from '../job/limits.ts';
import { pause } from '../service/lifecycle.ts';
import type { Job, Worker } from './bullmq.ts';

export interface JobTaking {
  /** How many jobs there may be at a time from now on, with those that are being handled; with 0 none is asked for. */
  bound(most: number): void;
  /** Asks for nothing more and resolves when every job is handled. */
  close(): Promise<void>;
}

export interface JobTakingOptions {
  worker: Worker;
  most: number;
  /** Never rejects. */
  handle(job: Job, token: string): Promise<void>;
  onFault(cause: unknown): void;
}

/** Questions at a time: each is answered by one step of Redis, and those to a queue that has just become empty are in vain. */
const QUESTIONS_MAX = 8;

export function takeJobs({ worker, handle, onFault, ...o }: JobTakingOptions): JobTaking {
  const closing = new AbortController();
  const busy = new Set<Promise<void>>();
  let { most } = o;
  let [handling, asking, askingMax] = [0, 0, 1];
  const follow = (work: Promise<void>): void => {
    const done = work.finally(() => busy.delete(done));
    busy.add(done);
  };
  const ask = (): void => {
    while (!closing.signal.aborted && handling + asking < most && asking < askingMax) {
      asking += 1;
      follow(askOne());
    }
  };
  const handleOne = async (job: Job, token: string): Promise<void> => {
    handling += 1;
    await handle(job, token);
    handling -= 1;
    ask();
  };
  const askOne = async (): Promise<void> => {
    const token = randomUUID();
    const job = await worker.getNextJob(token, { block: askingMax === 1 }).catch(async (cause: unknown) => {
      onFault(cause);
      await pause(limits.faultPauseMs, closing.signal);
      return undefined;
    });
    asking -= 1;
    askingMax = job === undefined ? 1 : Math.min(2 * askingMax, QUESTIONS_MAX);
    if (job !== undefined) follow(handleOne(job, token));
    ask();
  };
  ask();
  return {
    bound: (wanted) => {
      most = wanted;
      ask();
    },
    close: async () => {
      closing.abort('closed');
      // Ends the wait for a job. What is handled still has its lock, and the connection that was given.
      await worker.close(true);
      while (busy.size > 0) await Promise.all(busy);
    },
  };
}
