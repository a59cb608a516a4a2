/** Taking runs of several platforms with one bound on how many scripts run at a time. */
import { limits } from '../src/job/limits.ts';
import { type Consumer, consumeRuns, type Delivery, type Handled } from '../src/queue/consume.ts';
import { after } from '../src/service/after.ts';
import { aborted, pause } from '../src/service/lifecycle.ts';
import { createPlaces } from './places.ts';
import { runJob } from './run-job.ts';
import type { WorkerContext } from './worker-context.ts';

export interface TakeOptions {
  worker: WorkerContext;
  platforms: string[];
  /** Scripts at a time, over all platforms together; as many runs more may be on their way to the store. */
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
  const scripts = o.once ? 1 : o.concurrency;
  let enough = false;
  const stop = (reason: string): void => {
    enough = true;
    places.close();
    o.onEnough(reason);
  };
  const idle = createIdleClock(o.idleExitMs, () => stop('nothing to do for long enough'));
  const consumers: Consumer[] = [];
  const places = createPlaces({
    scripts,
    runs: o.once ? 1 : 2 * scripts,
    queues: o.platforms.length,
    bound: (queue, runs) => consumers[queue]?.bound(runs),
  });
  const idleForGood = new AbortController();
  const handle = async (queue: number, delivery: Delivery): Promise<Handled> => {
    const place = (await worker.folders.roomWithin(limits.placeWaitMs)) ? await places.take(queue) : null;
    if (place === null) return { kind: 'back' };
    idle.stop();
    try {
      return await runJob(worker, delivery, place.onExecuted);
    } finally {
      if (o.once) stop('one run is done');
      place.leave();
      if (places.taken() === 0 && !enough) idle.start();
      if (places.taken() === 0 && enough) idleForGood.abort();
    }
  };
  for (const [queue, platform] of o.platforms.entries()) {
    consumers.push(
      consumeRuns({
        connection: worker.redis,
        platform,
        concurrency: scripts,
        workerName: worker.workerName,
        logger: worker.logger,
        handle: (delivery) => handle(queue, delivery),
        claimOf: (id) => worker.running.get(id),
      }),
    );
  }
  idle.start();
  return {
    close: async () => {
      enough = true;
      places.close();
      idle.stop();
      if (places.taken() === 0) idleForGood.abort();
      const closed = Promise.all(consumers.map((consumer) => consumer.close()));
      const late = aborted(idleForGood.signal).then(() => pause(limits.idleCloseMsMax, new AbortController().signal));
      await Promise.race([closed, late]);
    },
  };
}

function createIdleClock(idleMs: number | null, ring: () => void): { start(): void; stop(): void } {
  let stop = (): void => undefined;
  return {
    start: () => {
      if (idleMs !== null) stop = after(idleMs, ring);
    },
    stop: () => stop(),
  };
}
