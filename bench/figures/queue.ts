/** A long queue: what it costs those at its head, and how fast it is filled. */
import { setTimeout as delay } from 'node:timers/promises';
import { readRecords } from '../../src/queue/records.ts';
import { keys } from '../../src/redis/keys.ts';
import { type Contender, type Figure, type Size, type Values, Void } from '../figure.ts';
import { bullmqAddBulk } from '../peers/bullmq-add-bulk.ts';
import { BATCH, type BenchPool, PLATFORM, startPool } from '../support/pool.ts';

export function queueFigures(size: Size): Figure[] {
  return [dispatch(size), submit(size)];
}

const WORKER = { workers: 1, concurrency: 8, sandbox: 'none' } as const;
const POLL_MS = 5;
const FEW = 100;

function dispatch(size: Size): Figure {
  const runs = size === 'full' ? 2_000 : 150;
  const many = size === 'full' ? 100_000 : 3_000;
  return {
    name: 'dispatch',
    title: `${runs} × true while ${many} or ${FEW} runs wait behind them`,
    statistics: [{ name: 'rate', unit: 'runs/s', better: 'more' }],
    rounds: size === 'full' ? 7 : 3,
    contenders: [waiting('builder', many, runs), waiting(`builder, ${FEW} waiting`, FEW, runs)],
    goals: [{ statistic: 'rate', contender: 'builder', against: [`builder, ${FEW} waiting`], ratio: 0.9 }],
  };
}

function waiting(name: string, count: number, runs: number): Contender {
  return {
    name,
    kind: 'builder',
    setting: `sandbox none, folder store, synced, 1 worker × ${WORKER.concurrency}; ${count} runs of low priority wait on the same platform`,
    open: async () => {
      const pool = await startPool({ ...WORKER, workers: 0 });
      await fill(pool, count);
      let rounds = 0;
      return {
        measure: async () => {
          rounds += 1;
          return measureDispatch({ pool, count, runs, worker: `worker-${rounds}` });
        },
        close: pool.close,
      };
    },
  };
}

/** Priority low: behind all that a round submits. A round's worker has taken a few of them before it was stopped. */
async function fill(pool: BenchPool, count: number): Promise<void> {
  const missing = count - (await pool.redis.zcard(keys.openRuns(PLATFORM)));
  await pool.submit(Array.from({ length: missing }, () => ({ platform: PLATFORM, script: 'true', priority: 'low' })));
}

/** The worker is started for the round, and finds all waiting; the time is that from the first start to the last end, as recorded. */
async function measureDispatch(o: { pool: BenchPool; count: number; runs: number; worker: string }): Promise<Values> {
  const { pool, count, runs } = o;
  await fill(pool, count);
  const ids = await pool.submit(Array.from({ length: runs }, () => ({ platform: PLATFORM, script: 'true', priority: 'high' })));
  const worker = await pool.startWorker(o.worker, WORKER);
  while ((await pool.redis.zcard(keys.openRuns(PLATFORM))) > count) await delay(POLL_MS);
  worker.child.kill('SIGTERM');
  await worker.ended;
  await pool.checkRuns(ids);
  const attempts = (await readRecords(pool.redis, ids)).map((record) => record?.attempts[0]);
  const from = Math.min(...attempts.map((attempt) => Date.parse(attempt?.startedAt ?? '')));
  const to = Math.max(...attempts.map((attempt) => Date.parse(attempt?.finishedAt ?? '')));
  return { rate: (runs * 1000) / (to - from) };
}

/** A shell script of a usual size: 1 KiB. */
const SCRIPT = `${'# a line of a script that has some length, as they do\n'.repeat(20).slice(0, 1_018)}\ntrue\n`;

/** As long, and of no other run. */
function ownScript(n: number): string {
  return `# ${String(n).padStart(8, '0')}\n${SCRIPT.slice(11)}`;
}

function submit(size: Size): Figure {
  const runs = size === 'full' ? 100_000 : 3_000;
  const differing = size === 'full' ? 10_000 : 1_000;
  const peers = [BATCH, 10_000].map((batch) => bullmqAddBulk({ runs, batch, script: SCRIPT }));
  return {
    name: 'submit',
    title: `Submitting ${runs} runs with a script of ${SCRIPT.length} bytes`,
    statistics: [{ name: 'rate', unit: 'runs/s', better: 'more' }],
    rounds: size === 'full' ? 5 : 3,
    contenders: [
      submitting({ name: 'builder', runs, script: () => SCRIPT, scripts: 'the same script in all' }),
      submitting({
        name: 'builder, scripts differ',
        runs: differing,
        script: ownScript,
        scripts: `${differing} runs, each with its own script`,
      }),
      ...peers,
    ],
    goals: [{ statistic: 'rate', contender: 'builder', against: peers.map(({ name }) => name), ratio: 0.5 }],
  };
}

interface Submitting {
  name: string;
  runs: number;
  /** The text of each. */
  script: (n: number) => string;
  /** What a reader has to know of them. */
  scripts: string;
}

/** A system of its own for each round, so that no round meets what another has left. */
function submitting({ name, runs, script, scripts }: Submitting): Contender {
  return {
    name,
    kind: 'builder',
    setting: `HTTP, one client, requests of ${BATCH} runs one after another, ${scripts}; folder store, synced, no worker`,
    open: async () => ({
      measure: async () => {
        const pool = await startPool({ ...WORKER, workers: 0 });
        try {
          const begunAtMs = performance.now();
          const ids = await pool.submit(Array.from({ length: runs }, (_, n) => ({ platform: PLATFORM, script: script(n) })));
          const tookMs = performance.now() - begunAtMs;
          await checkWaiting(pool, ids, runs);
          return { rate: (runs * 1000) / tookMs };
        } finally {
          await pool.close();
        }
      },
      close: async () => undefined,
    }),
  };
}

async function checkWaiting(pool: BenchPool, ids: string[], runs: number): Promise<void> {
  const { queues } = (await (await pool.get('/info')).json()) as { queues: Record<string, { waiting: number }> };
  const waits = queues[PLATFORM]?.waiting;
  if (new Set(ids).size !== runs || waits !== runs) throw new Void(`expected ${runs} runs to wait, got ${waits}`);
  for (let at = 0; at < ids.length; at += BATCH) {
    const records = await readRecords(pool.redis, ids.slice(at, at + BATCH));
    if (records.some((record) => record === null)) throw new Void('expected a record of each run, got none of one');
  }
}
