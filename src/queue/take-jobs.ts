/**
 * Asking BullMQ for jobs, and handing out each as soon as it is there: several questions at a time while the queue has some, one that waits while it
 * has none. (BullMQ's own loop asks for one after the other, and hands out the first when it has the last.)
 */
import { randomUUID } from 'node:crypto';
import { limits } from '../job/limits.ts';
import { isRedisAway } from '../redis/connection.ts';
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

/** Redis takes longer for an answer. */
const ANSWER_MS_MIN = 1;
const IN_VAIN_MAX = 3;
const IN_VAIN_PAUSE_MS = 100;

export function takeJobs({ worker, handle, onFault, ...o }: JobTakingOptions): JobTaking {
  const closing = new AbortController();
  const busy = new Set<Promise<void>>();
  let { most } = o;
  let [handling, asking, askingMax, inVain] = [0, 0, 1, 0];
  /** The only question waits until there is a job, as far as is known; whether there is one beside it. */
  let [waiting, isBeside] = [false, false];
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
    askBeside();
  };
  const question = async (block: boolean): Promise<Job | undefined> => {
    const [token, askedAtMs] = [randomUUID(), performance.now()];
    let job: Job | undefined;
    try {
      job = await worker.getNextJob(token, { block });
    } catch (cause) {
      onFault(cause);
      if (isRedisAway(cause)) await pause(limits.faultPauseMs, closing.signal);
    }
    inVain = job === undefined && performance.now() - askedAtMs < ANSWER_MS_MIN ? inVain + 1 : 0;
    if (job !== undefined) follow(handleOne(job, token));
    // A queue that takes no question (BullMQ's bound on a rate) answers at once, without Redis, and for as long as that lasts.
    else if (inVain > IN_VAIN_MAX) await pause(IN_VAIN_PAUSE_MS, closing.signal);
    return job;
  };
  const askOne = async (): Promise<void> => {
    waiting = askingMax === 1;
    const job = await question(waiting);
    asking -= 1;
    waiting = false;
    askingMax = job === undefined ? 1 : Math.min(2 * askingMax, QUESTIONS_MAX);
    ask();
  };
  /** BullMQ wakes nobody where a job that ends makes room below a bound of the whole queue. */
  const askBeside = (): void => {
    if (!waiting || isBeside || handling >= most || closing.signal.aborted) return;
    isBeside = true;
    const asked = async (): Promise<void> => {
      const job = await question(false);
      isBeside = false;
      if (job !== undefined) askBeside();
    };
    follow(asked());
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
