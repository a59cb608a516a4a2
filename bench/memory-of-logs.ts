/**
 * How much memory worker and server take over a long log, and for many observers. A program of its own: what it tells is no ratio.
 *
 *   node dist/bench/memory-of-logs.js [--mib 1024] [--observers 1000] [--runs 100]
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { observeRun } from './support/log-observer.ts';
import { type BenchPool, PLATFORM, startPool } from './support/pool.ts';
import { flood, paced, scriptOf } from './support/talker.ts';

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    observers: { type: 'string', default: '1000' },
    runs: { type: 'string', default: '100' },
  },
});
const LINE_BYTES = 100;
const SAMPLE_MS = 250;

/** MiB in memory now, of worker, server and Redis. */
function memory({ workers, server, redisPid }: BenchPool): Record<string, number> {
  const pids = { worker: workers[0]?.child.pid ?? 0, server: server.child.pid ?? 0, redis: redisPid };
  return Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, residentMib(pid)]));
}

function residentMib(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round(Number(kib) / 1024);
}

/** What each took at most meanwhile, in four parts of the time: flat memory is the same in the last as in the second. */
async function watched(pool: BenchPool, title: string, work: Promise<unknown>): Promise<void> {
  const before = memory(pool);
  const samples: Record<string, number>[] = [];
  let done = false;
  const ended = work.finally(() => {
    done = true;
  });
  while (!done) {
    samples.push(memory(pool));
    await Promise.race([ended, delay(SAMPLE_MS)]);
  }
  await ended;
  const quarter = (part: number): Record<string, number>[] =>
    samples.slice(Math.floor((part * samples.length) / 4), Math.ceil(((part + 1) * samples.length) / 4));
  for (const [name, mib] of Object.entries(before)) {
    const most = [0, 1, 2, 3].map((part) => Math.max(...quarter(part).map((sample) => sample[name] ?? 0)));
    process.stdout.write(`${title}: ${name}: before ${mib} MiB, then at most ${most.join(', ')} MiB by quarters\n`);
  }
}

async function withPool(concurrency: number, work: (pool: BenchPool) => Promise<void>): Promise<void> {
  const pool = await startPool({ workers: 1, concurrency, sandbox: 'none' });
  try {
    await work(pool);
  } finally {
    await pool.close();
  }
}

async function submitAndObserve(pool: BenchPool, script: string, o: { runs: number; observers: number }): Promise<void> {
  const ids = await pool.submit(Array.from({ length: o.runs }, () => ({ platform: PLATFORM, script })));
  const observed = await Promise.all(ids.flatMap((id) => Array.from({ length: o.observers }, () => observeRun(pool, id, { keep: false }))));
  const unequal = new Set(observed.map(({ bytes }) => bytes)).size;
  if (o.runs === 1 && unequal > 1) throw new Error(`expected the same of all observers, got ${unequal} different lengths`);
  await pool.idle();
  await pool.checkRuns(ids);
}

const lines = Math.round((Number(values.mib) * 2 ** 20) / LINE_BYTES);
await withPool(1, async (pool) => {
  await submitAndObserve(pool, scriptOf(flood(1_000)), { runs: 1, observers: 1 });
  const work = submitAndObserve(pool, scriptOf(flood(lines)), { runs: 1, observers: 1 });
  await watched(pool, `a log of ${values.mib} MiB, one observer`, work);
});
await withPool(1, async (pool) => {
  const script = scriptOf(paced({ lines: 2_000, perSecond: 100, delayMs: 2_000 }));
  const work = submitAndObserve(pool, script, { runs: 1, observers: Number(values.observers) });
  await watched(pool, `${values.observers} observers of one run of 100 lines/s`, work);
});
await withPool(Number(values.runs), async (pool) => {
  const script = scriptOf(paced({ lines: 200, perSecond: 10, delayMs: 5_000 }));
  const work = submitAndObserve(pool, script, { runs: Number(values.runs), observers: 1 });
  await watched(pool, `${values.runs} observers of ${values.runs} runs of 10 lines/s`, work);
});
