/** Taking runs of several platforms with one bound on how many run at a time. */
import { type Consumer, consumeRuns, type Delivery, type Handled } from '../src/queue/consume.ts';
import { runJob } from './run-job.ts';
import type { WorkerContext } from './worker-context.ts';

export interface TakeOptions {
  worker: WorkerContext;
  platforms: string[];
  /** Over all platforms together. */
  concurrency: number;
}

/** Takes runs until closed; `close` resolves when everything taken is handled. */
export function takeRuns(o: TakeOptions): { close(): Promise<void> } {
  const { worker } = o;
  let taken = 0;
  const consumers: Consumer[] = [];
  const handle = async (delivery: Delivery): Promise<Handled> => {
    // BullMQ bounds each platform alone; one that is full over all of them gives back what it took beyond.
    if (taken >= o.concurrency) return { kind: 'back' };
    taken += 1;
    if (taken === o.concurrency && consumers.length > 1) await Promise.all(consumers.map((consumer) => consumer.pause()));
    try {
      return await runJob(worker, delivery);
    } finally {
      taken -= 1;
      if (taken === o.concurrency - 1 && consumers.length > 1) await Promise.all(consumers.map((consumer) => consumer.resume()));
    }
  };
  for (const platform of o.platforms) {
    consumers.push(
      consumeRuns({
        connection: worker.redis,
        platform,
        concurrency: o.concurrency,
        workerName: worker.workerName,
        logger: worker.logger,
        handle,
        claimOf: (id) => worker.running.get(id),
      }),
    );
  }
  return { close: async () => void (await Promise.all(consumers.map((consumer) => consumer.close()))) };
}
