/** Runs per second: the shortest script there is, a great many times. */
import { existsSync } from 'node:fs';
import type { RunRecord } from '../../src/job/run.ts';
import type { Contender, Figure, Size } from '../figure.ts';
import { bullmqExeca } from '../peers/bullmq-execa.ts';
import { PLATFORM, startPool } from '../support/pool.ts';
import { spawnRate, TRUE, WAYS } from '../support/spawning.ts';

const CONCURRENCY = 8;
const RATE = { name: 'rate', unit: 'runs/s', better: 'more' } as const;

export function runsFigures(size: Size): Figure[] {
  const runs = 2_000;
  const rounds = size === 'full' ? 7 : 3;
  const bare = bareSpawns(runs);
  return [
    {
      name: 'runs-none',
      title: `${runs} × true, one worker, concurrency ${CONCURRENCY}, sandbox none`,
      statistics: [RATE],
      rounds,
      contenders: [builder({ runs, workers: 1, sandbox: 'none' }), ...bare, bullmqExeca({ runs, concurrency: CONCURRENCY })],
      goals: [
        { statistic: 'rate', contender: 'builder', against: bare.map(({ name }) => name), ratio: 0.6 },
        { statistic: 'rate', contender: 'builder', against: ['BullMQ + execa'], ratio: 0.9 },
      ],
    },
  ];
}

function builder(o: { runs: number; workers: number; sandbox: 'none' | 'bwrap' }): Contender {
  const concurrency = CONCURRENCY / o.workers;
  return {
    name: 'builder',
    kind: 'builder',
    setting: `sandbox ${o.sandbox}, folder store, ${o.workers} worker(s) × ${concurrency}, requests of 1000 runs; logs and artifacts collected`,
    open: async () => {
      const pool = await startPool({ workers: o.workers, concurrency, sandbox: o.sandbox });
      return {
        measure: async () => {
          const begunAtMs = performance.now();
          const ids = await pool.submit(Array.from({ length: o.runs }, () => ({ platform: PLATFORM, script: 'true' })));
          await pool.idle();
          const tookMs = performance.now() - begunAtMs;
          await pool.checkRuns(ids, emptyLogAndManifest(pool.storePath));
          return { rate: (o.runs * 1000) / tookMs };
        },
        close: pool.close,
      };
    },
  };
}

function emptyLogAndManifest(storePath: string): (record: RunRecord) => string | null {
  return ({ spec, result }) => {
    if (result?.log.lines !== 0) return `expected an empty log, got ${result?.log.lines} lines`;
    return existsSync(storePath) ? null : `expected a manifest of ${spec.id}`;
  };
}

function bareSpawns(runs: number): Contender[] {
  return Object.entries(WAYS).map(([name, start]) => ({
    name: `Node ${name}`,
    kind: 'limit',
    setting: `${CONCURRENCY} at a time, ${TRUE.join(' ')}`,
    open: async () => ({
      measure: async () => ({ rate: await spawnRate(() => start(TRUE), runs, CONCURRENCY) }),
      close: async () => undefined,
    }),
  }));
}
