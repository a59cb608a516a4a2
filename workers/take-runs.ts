/** Taking runs of several platforms with one bound on how many run at a time. */
import { limits } from '../src/job/limits.ts';
import { type Consumer, consumeRuns, type Delivery, type Handled } from '../src/queue/consume.ts';
import { aborted, pause } from '../src/service/lifecycle.ts';
import { runJob } from './run-job.ts';
import type { WorkerContext } from './worker-context.ts';

export interface TakeOptions {
  worker: WorkerContext;
  platforms: string[];
  /** Over all platforms together. */
  concurrency: number;
  /** One run, then enough. */
  once: boolean;
  /** Enough after so long without a run; null: never. */
  idleExitMs: number | null;
  /** Called when it has taken enough, with why; the caller closes it then. */
  onEnough(reason: string): void;
}

/**
 * Takes runs until closed; `close` resolves when everything taken is handled. With nothing left to handle it is bounded: Redis
 * may be gone for good, and a run that it was handing out just then is found by servers, as one of a worker that died.
 */
export function takeRuns(o: TakeOptions): { close(): Promise<void> } {
  const { worker } = o;
  const concurrency = o.once ? 1 : o.concurrency;
  let taken = 0;
  let enough = false;
  const stop = (reason: string): void => {
    enough = true;
    o.onEnough(reason);
  };
  const idle = createIdleClock(o.idleExitMs, () => stop('nothing to do for long enough'));
  const consumers: Consumer[] = [];
  const idleForGood = new AbortController();
  const handle = async (delivery: Delivery): Promise<Handled> => {
    // BullMQ bounds each platform alone; one that is full over all of them gives back what it took beyond.
    if (enough || taken >= concurrency) return { kind: 'back' };
    taken += 1;
    idle.stop();
    if (taken === concurrency && consumers.length > 1) await Promise.all(consumers.map((consumer) => consumer.pause()));
    try {
      return await runJob(worker, delivery);
    } finally {
      taken -= 1;
      if (taken === 0) idle.start();
      if (taken === 0 && enough) idleForGood.abort();
      if (o.once) stop('one run is done');
      else if (taken === concurrency - 1 && consumers.length > 1) await Promise.all(consumers.map((consumer) => consumer.resume()));
    }
  };
  for (const platform of o.platforms) {
    consumers.push(
      consumeRuns({
        connection: worker.redis,
        platform,
        concurrency,
        workerName: worker.workerName,
        logger: worker.logger,
        handle,
        claimOf: (id) => worker.running.get(id),
      }),
    );
  }
  idle.start();
  return {
    close: async () => {
      enough = true;
      idle.stop();
      if (taken === 0) idleForGood.abort();
      const closed = Promise.all(consumers.map((consumer) => consumer.close()));
      const late = aborted(idleForGood.signal).then(() => pause(limits.idleCloseMsMax, new AbortController().signal));
      await Promise.race([closed, late]);
    },
  };
}

function createIdleClock(idleMs: number | null, ring: () => void): { start(): void; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  return {
    start: () => {
      if (idleMs !== null) timer = setTimeout(ring, idleMs);
    },
    stop: () => clearTimeout(timer),
  };
}
