/** Peer: BullMQ and execa as their own introductions have it: a queue, a worker, a script per job. No log, no artifacts, no sandbox. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Queue } from 'bullmq';
import { startRedis } from '../../test/support/redis.ts';
import { type Contender, Void } from '../figure.ts';

const WORKER = fileURLToPath(new URL('bullmq-execa-worker.js', import.meta.url));
const QUEUE = 'bench';
const POLL_MS = 20;

export function bullmqExeca(o: { runs: number; concurrency: number }): Contender {
  return {
    name: 'BullMQ + execa',
    kind: 'peer',
    setting: `one worker process, concurrency ${o.concurrency}, addBulk of all; no log, no artifacts`,
    open: async () => {
      const redis = await startRedis();
      const path = redis.url.slice('unix:'.length);
      const queue = new Queue(QUEUE, { connection: { path } });
      const worker = fork(WORKER, [path, QUEUE, String(o.concurrency)]);
      const ended = once(worker, 'exit');
      await once(worker, 'message');
      let done = 0;
      return {
        measure: async () => {
          const begunAtMs = performance.now();
          await queue.addBulk(Array.from({ length: o.runs }, () => ({ name: 'true', data: { script: 'true' } })));
          while ((await queue.getJobCountByTypes('completed', 'failed')) < done + o.runs) await delay(POLL_MS);
          const tookMs = performance.now() - begunAtMs;
          done += o.runs;
          const failed = await queue.getFailedCount();
          if (failed > 0) throw new Void(`expected ${o.runs} jobs to succeed, got ${failed} that failed`);
          return { rate: (o.runs * 1000) / tookMs };
        },
        close: async () => {
          worker.kill('SIGTERM');
          await ended;
          await queue.close();
          await redis.stop();
        },
      };
    },
  };
}
