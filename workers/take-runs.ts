/** Taking runs of several platforms with one bound on how many scripts run at a time. */
import { limits } from '../src/job/limits.ts';
import { type Consumer, consumeRuns, type Delivery, type Handled } from '../src/queue/consume.ts';
import { aborted, pause } from '../src/service/lifecycle.ts';
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
  let enough = false;
  const stop = (reason: string): void => {
    enough = true;
    o.onEnough(reason);
  };
  const idle = createIdleClock(o.idleExitMs, () => stop('nothing to do for long enough'));
  const consumers: Consumer[] = [];
  const places = createPlaces(o, consumers);
  const idleForGood = new AbortController();
  const handle = async (delivery: Delivery): Promise<Handled> => {
    // BullMQ bounds each platform alone; one that is full over all of them gives back what it took beyond.
    const place = enough ? null : places.take();
    if (place === null) return { kind: 'back' };
    idle.stop();
    try {
      return await runJob(worker, delivery, o.once ? () => undefined : place.onExecuted);
    } finally {
      place.leave();
      if (places.taken() === 0) idle.start();
      if (places.taken() === 0 && enough) idleForGood.abort();
      if (o.once) stop('one run is done');
    }
  };
  for (const platform of o.platforms) {
    consumers.push(
      consumeRuns({
        connection: worker.redis,
        platform,
        concurrency: o.once ? 1 : o.concurrency,
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
      if (places.taken() === 0) idleForGood.abort();
      const closed = Promise.all(consumers.map((consumer) => consumer.close()));
      const late = aborted(idleForGood.signal).then(() => pause(limits.idleCloseMsMax, new AbortController().signal));
      await Promise.race([closed, late]);
    },
  };
}

interface Place {
  /** Its script has ended: another one may run while what this one left is stored. */
  onExecuted(): void;
  leave(): void;
}

interface Places {
  taken(): number;
  /** Null where all are taken. */
  take(): Place | null;
}

/** `consumers`, which may be filled later, are told how many runs they may have. */
function createPlaces(o: Pick<TakeOptions, 'concurrency' | 'once'>, consumers: Consumer[]): Places {
  const most = o.once ? 1 : o.concurrency;
  let executing = 0;
  let storing = 0;
  const isFull = (): boolean => executing >= most || executing + storing >= 2 * most;
  const update = (): void => {
    // One alone is full by its own bound; of several each has only its part of those.
    const bound = consumers.length > 1 && isFull() ? 0 : most + Math.min(storing, most);
    for (const consumer of consumers) consumer.bound(bound);
  };
  const take = (): Place | null => {
    if (isFull()) return null;
    executing += 1;
    update();
    let isExecuting = true;
    return {
      onExecuted: () => {
        if (!isExecuting) return;
        isExecuting = false;
        executing -= 1;
        storing += 1;
        update();
      },
      leave: () => {
        if (isExecuting) executing -= 1;
        else storing -= 1;
        update();
      },
    };
  };
  return { taken: () => executing + storing, take };
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
