/** Peer: BullMQ's own way to submit many jobs at once, in the same process as its client. */
import { Queue } from 'bullmq';
import { startRedis } from '../../test/support/redis.ts';
import { type Contender, Void } from '../figure.ts';

/** A Redis of its own for each round. `batch`: jobs of one addBulk. */
export function bullmqAddBulk(o: { runs: number; batch: number; script: string }): Contender {
  return {
    name: `BullMQ addBulk by ${o.batch}`,
    kind: 'peer',
    setting: `in the client's process, ${o.batch} jobs a call, the script in each job's data`,
    open: async () => ({
      measure: async () => {
        const redis = await startRedis();
        const queue = new Queue('bench', { connection: { path: redis.url.slice('unix:'.length) } });
        try {
          await queue.waitUntilReady();
          const begunAtMs = performance.now();
          for (let at = 0; at < o.runs; at += o.batch) {
            const jobs = Array.from({ length: Math.min(o.batch, o.runs - at) }, () => ({ name: 'bench', data: { script: o.script } }));
            await queue.addBulk(jobs);
          }
          const tookMs = performance.now() - begunAtMs;
          const waits = await queue.getWaitingCount();
          if (waits !== o.runs) throw new Void(`expected ${o.runs} jobs to wait, got ${waits}`);
          return { rate: (o.runs * 1000) / tookMs };
        } finally {
          await queue.close();
          await redis.stop();
        }
      },
      close: async () => undefined,
    }),
  };
}
