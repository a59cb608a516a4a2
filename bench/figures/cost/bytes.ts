/** Redis's memory per run that waits, and per run that has ended. */
import { startRedis } from '../../../test/support/redis.ts';
import type { Contender, Figure } from '../../figure.ts';
import { bullJobs, openBullQueue } from '../../support/bull-queue.ts';
import { fillHistory, fillWaiting, openBenchQueues, SCRIPT } from '../../support/filling.ts';
import { given } from '../../support/given.ts';
import { BATCH, PLATFORM } from '../../support/pool.ts';
import { usedBytes } from '../../support/redis-use.ts';

const BYTES = { name: 'bytes', unit: 'B', better: 'less' } as const;

export function waitingBytesFigure({ runs, rounds }: { runs: number; rounds: number }): Figure {
  const limit = given('1.5 KiB', { bytes: 1_536 });
  const ours = [
    filled('builder', { runs, fill: fillWaiting, o: {} }),
    filled('builder, runs of a job', { runs, fill: fillWaiting, o: { job: () => 'nightly' } }),
  ];
  return {
    name: 'waiting-bytes',
    title: 'memory of Redis per waiting run with a script of 1 KiB',
    statistics: [BYTES],
    goals: ours.map(({ name }) => ({ statistic: 'bytes', contender: name, against: [limit.name], ratio: 1 })),
    contenders: [...ours, bullAlone(runs), limit],
    rounds,
  };
}

export function historyBytesFigure(runs: number): Figure {
  const limit = given('2 KiB', { bytes: 2_048 });
  const ours = filled('builder', { runs, fill: fillHistory, o: { job: () => 'nightly' } });
  return {
    name: 'history-bytes',
    title: 'memory of Redis per run of a job that has ended, its log expired',
    statistics: [BYTES],
    goals: [{ statistic: 'bytes', contender: ours.name, against: [limit.name], ratio: 1 }],
    contenders: [ours, limit],
    rounds: 1,
  };
}

interface Filled {
  runs: number;
  fill: typeof fillWaiting;
  o: { job?: () => string };
}

/** A Redis of its own for each round: tables grow in steps, and another round would meet others. */
function filled(name: string, { runs, fill, o }: Filled): Contender {
  return {
    name,
    kind: 'builder',
    setting: `used_memory of Redis over ${runs} runs, ${BATCH} at a time by the functions of server and worker: neither is alive; no store, the script by its digest`,
    open: async () => ({
      measure: async () => {
        const redis = await startRedis();
        const queues = openBenchQueues(redis.url);
        try {
          await fill(queues, 1, { platform: PLATFORM, ...o });
          const before = await usedBytes(queues.redis);
          await fill(queues, runs, { platform: PLATFORM, ...o });
          return { bytes: ((await usedBytes(queues.redis)) - before) / runs };
        } finally {
          await queues.close();
          await redis.stop();
        }
      },
      close: async () => undefined,
    }),
  };
}

function bullAlone(runs: number): Contender {
  return {
    name: 'BullMQ alone',
    kind: 'peer',
    setting: `used_memory of Redis over ${runs} jobs by addBulk, ${BATCH} a call, the script in their data`,
    open: async () => ({
      measure: async () => {
        const { queue, redis, close } = await openBullQueue();
        try {
          const before = await usedBytes(redis);
          for (let at = 0; at < runs; at += BATCH) await queue.addBulk(bullJobs(Math.min(BATCH, runs - at), SCRIPT));
          return { bytes: ((await usedBytes(redis)) - before) / runs };
        } finally {
          await close();
        }
      },
      close: async () => undefined,
    }),
  };
}
