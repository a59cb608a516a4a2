/** Runs per second: the shortest script there is, a great many times, and as many sleeping scripts as there are slots. */

import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import { readManifest } from '../../src/artifacts/manifest.ts';
import type { RunRecord } from '../../src/job/run.ts';
import type { Contender, Figure, Size } from '../figure.ts';
import { bullmqExeca } from '../peers/bullmq-execa.ts';
import { graphileWorker } from '../peers/graphile-worker.ts';
import { slurm } from '../peers/slurm.ts';
import { taskSpooler } from '../peers/task-spooler.ts';
import { xargs } from '../peers/xargs.ts';
import { takeBwrapCommand } from '../support/bwrap-command.ts';
import { BATCH, PLATFORM, type PoolOptions, startPool } from '../support/pool.ts';
import { bareSpawns, type Command, startSpawner } from '../support/spawning.ts';

const CONCURRENCY = 8;
const RATE = { name: 'rate', unit: 'runs/s', better: 'more' } as const;

export function runsFigures(size: Size): Figure[] {
  return [runsNone(size), runsBwrap(size), runsCores(size), runsSleep(size)];
}

function runsNone(size: Size): Figure {
  const runs = size === 'full' ? 2_000 : 150;
  const bare = bareSpawns({ runs, atOnce: CONCURRENCY });
  return {
    name: 'runs-none',
    title: `${runs} × true, one worker, concurrency ${CONCURRENCY}, sandbox none`,
    statistics: [RATE],
    rounds: size === 'full' ? 7 : 3,
    contenders: [
      builder({ runs, workers: 1, sandbox: 'none' }),
      ...bare,
      bullmqExeca({ runs, concurrency: CONCURRENCY }),
      graphileWorker({ runs, concurrency: CONCURRENCY }),
    ],
    goals: [
      { statistic: 'rate', contender: 'builder', against: bare.map(({ name }) => name), ratio: 0.6 },
      { statistic: 'rate', contender: 'builder', against: ['BullMQ + execa'], ratio: 0.9 },
      { statistic: 'rate', contender: 'builder', against: ['graphile-worker + execa'], ratio: 1 },
    ],
  };
}

function runsBwrap(size: Size): Figure {
  const runs = size === 'full' ? 2_000 : 120;
  const bare = bareBwraps(runs);
  return {
    name: 'runs-bwrap',
    title: `${runs} × true, one worker, concurrency ${CONCURRENCY}, sandbox bwrap`,
    statistics: [RATE],
    rounds: size === 'full' ? 5 : 3,
    contenders: [builder({ runs, workers: 1, sandbox: 'bwrap' }), ...bare],
    goals: [{ statistic: 'rate', contender: 'builder', against: bare.map(({ name }) => name), ratio: 0.8 }],
  };
}

function runsCores(size: Size): Figure {
  const runs = size === 'full' ? 2_000 : 150;
  const limit = xargs({ runs, atOnce: CONCURRENCY });
  return {
    name: 'runs-cores',
    title: `${runs} × true, every core used, ${CONCURRENCY} at a time`,
    statistics: [RATE],
    rounds: size === 'full' ? 7 : 3,
    contenders: [
      builder({ runs, workers: 2, sandbox: 'none' }),
      limit,
      taskSpooler({ runs, slots: CONCURRENCY }),
      slurm({ runs: size === 'full' ? 300 : 40, slots: CONCURRENCY }),
    ],
    goals: [
      { statistic: 'rate', contender: 'builder', against: [limit.name], ratio: 0.4 },
      { statistic: 'rate', contender: 'builder', against: ['task-spooler'], ratio: 1 },
      { statistic: 'rate', contender: 'builder', against: ['Slurm'], ratio: 1 },
    ],
  };
}

const SLEEPERS = { workers: 4, slots: 200 };

function runsSleep(size: Size): Figure {
  const runs = size === 'full' ? 12_000 : 400;
  const sleeping = { runs, workers: SLEEPERS.workers, slots: SLEEPERS.slots, script: 'sleep 1', sandbox: 'none' } as const;
  const ideal: Contender = {
    name: 'ideal',
    kind: 'limit',
    setting: `computed: ${SLEEPERS.slots} slots, each always asleep`,
    open: async () => ({ measure: async () => ({ rate: SLEEPERS.slots }), close: async () => undefined }),
  };
  return {
    name: 'runs-sleep',
    title: `${runs} × sleep 1, ${SLEEPERS.slots} slots over ${SLEEPERS.workers} workers`,
    statistics: [RATE],
    rounds: 3,
    contenders: [builder(sleeping), ideal],
    goals: [{ statistic: 'rate', contender: 'builder', against: ['ideal'], ratio: 0.95 }],
  };
}

interface Load {
  runs: number;
  workers: number;
  sandbox: PoolOptions['sandbox'];
  /** Over all workers. */
  slots?: number;
  script?: string;
}

function builder({ runs, workers, sandbox, slots = CONCURRENCY, script = 'true' }: Load): Contender {
  const concurrency = slots / workers;
  return {
    name: 'builder',
    kind: 'builder',
    setting: `sandbox ${sandbox}, folder store, ${workers} worker(s) × ${concurrency}, requests of ${Math.min(runs, BATCH)} runs; logs and artifacts collected`,
    open: async () => {
      const pool = await startPool({ workers, concurrency, sandbox });
      const check = await emptyLogAndManifest(pool.storePath);
      const all: string[] = [];
      return {
        measure: async () => {
          const begunAtMs = performance.now();
          const ids = await pool.submit(Array.from({ length: runs }, () => ({ platform: PLATFORM, script })));
          await pool.idle();
          const tookMs = performance.now() - begunAtMs;
          await pool.checkRuns(ids, check);
          all.push(...ids);
          return { rate: (runs * 1000) / tookMs };
        },
        close: () => pool.close(all),
      };
    },
  };
}

async function emptyLogAndManifest(storePath: string): Promise<(record: RunRecord) => Promise<string | null>> {
  const store = await openFolderStore(storePath);
  return async ({ spec, result }) => {
    if (result?.log.lines !== 0) return `expected an empty log, got ${result?.log.lines} lines`;
    const manifest = await readManifest(store, spec.id, result.attempt, result.claim ?? '');
    return manifest?.outcome === 'succeeded' ? null : `expected a manifest of ${spec.id}, got ${manifest?.outcome ?? 'none'}`;
  };
}

/** What is PID 1 inside: the script itself, or an init as builder has one, in the same language, that only waits. */
const INSIDE: Record<string, Command> = {
  'the script is PID 1': ['/bin/sh', '-c', 'true'],
  'an init in perl': ['/usr/bin/perl', '-e', 'exit(system("/bin/sh", "-c", "true") >> 8)'],
};

function bareBwraps(runs: number): Contender[] {
  return Object.entries(INSIDE).map(([name, inside]) => ({
    name: `Node spawn of bwrap, ${name}`,
    kind: 'limit',
    setting: `${CONCURRENCY} at a time by a Node process that does nothing else, the command line that a worker has for one run, output ignored, small environment`,
    open: async () => {
      const command: Command = [...takeBwrapCommand(), ...inside];
      const spawner = await startSpawner();
      return {
        measure: async () => ({ rate: await spawner.rate({ way: 'spawn, small environment', command, runs, atOnce: CONCURRENCY }) }),
        close: () => spawner.close(),
      };
    },
  }));
}
