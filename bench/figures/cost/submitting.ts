/** Submitting a great many runs: over HTTP, beside BullMQ's own way within one process. */
import { keys } from '../../../src/redis/keys.ts';
import { type Contender, type Figure, Void } from '../../figure.ts';
import { bullJobs, openBullQueue } from '../../support/bull-queue.ts';
import { SCRIPT } from '../../support/filling.ts';
import { BATCH, PLATFORM, startPool } from '../../support/pool.ts';

/** Requests, or bulks, at a time. */
const CLIENTS = 2;

export function submittingFigure(o: { runs: number; rounds: number }): Figure {
  return {
    name: 'submitting',
    title: `submitting ${o.runs} runs with a script of 1 KiB`,
    statistics: [{ name: 'rate', unit: 'runs/s', better: 'more' }],
    goals: [{ statistic: 'rate', contender: 'builder', against: ['BullMQ addBulk'], ratio: 0.5 }],
    contenders: [builder(o.runs), addBulk(o.runs)],
    rounds: o.rounds,
  };
}

function builder(runs: number): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `POST /api/v1/runs, ${BATCH} a request, ${CLIENTS} at a time; folder store`,
    open: async () => {
      const pool = await startPool({ workers: 0, concurrency: 1, sandbox: 'none' });
      let before = 0;
      return {
        measure: async () => {
          const rate = await rateOf(runs, (count) =>
            pool.submit(Array.from({ length: count }, () => ({ platform: PLATFORM, script: SCRIPT }))).then(() => undefined),
          );
          const open = await pool.redis.zcard(keys.openRuns(PLATFORM));
          if (open !== before + runs) throw new Void(`expected ${before + runs} runs, got ${open}`);
          before = open;
          return { rate };
        },
        close: pool.close,
      };
    },
  };
}

function addBulk(runs: number): Contender {
  return {
    name: 'BullMQ addBulk',
    kind: 'limit',
    setting: `${BATCH} a bulk, ${CLIENTS} at a time, in one process`,
    open: async () => {
      const { queue, close } = await openBullQueue();
      let before = 0;
      return {
        measure: async () => {
          const rate = await rateOf(runs, async (count) => void (await queue.addBulk(bullJobs(count, SCRIPT))));
          const waiting = await queue.getWaitingCount();
          if (waiting !== before + runs) throw new Void(`expected ${before + runs} jobs, got ${waiting}`);
          before = waiting;
          return { rate };
        },
        close,
      };
    },
  };
}

/** Runs per second, in batches. */
async function rateOf(runs: number, submit: (count: number) => Promise<void>): Promise<number> {
  let left = runs;
  const client = async (): Promise<void> => {
    while (left > 0) {
      const count = Math.min(BATCH, left);
      left -= count;
      await submit(count);
    }
  };
  const begunAtMs = performance.now();
  await Promise.all(Array.from({ length: CLIENTS }, client));
  return (runs * 1_000) / (performance.now() - begunAtMs);
}
