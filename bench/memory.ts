/**
 * How much memory worker, server and Redis take over a long log, many observers, a large artifact and a long history. A program of its own: what it
 * tells is no ratio. A size of 0 leaves a part out.
 *
 *   node dist/bench/memory.js [--log-mib 1024] [--observers 1000] [--runs 100] [--artifact-mib 1024] [--history 100000]
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fillHistory, openBenchQueues } from './support/filling.ts';
import { flagsOf } from './support/flags.ts';
import { observeRun } from './support/log-observer.ts';
import { type BenchPool, PLATFORM, startPool } from './support/pool.ts';
import { flood, paced, scriptOf } from './support/talker.ts';

const values = flagsOf({
  'log-mib': { type: 'string', default: '1024' },
  observers: { type: 'string', default: '1000' },
  runs: { type: 'string', default: '100' },
  'artifact-mib': { type: 'string', default: '1024' },
  history: { type: 'string', default: '100000' },
});
const sizes = [values['log-mib'], values.observers, values.runs, values['artifact-mib'], values.history].map(Number);
if (sizes.some((size) => !Number.isSafeInteger(size) || size < 0)) {
  process.stderr.write(`bench: expected whole numbers, got ${Object.values(values).join(', ')}\n`);
  process.exit(2);
}
const [logMib, observers, runs, artifactMib, history] = sizes as [number, number, number, number, number];
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

async function submitAndWait(pool: BenchPool, count: number): Promise<void> {
  const ids = await pool.submit(Array.from({ length: count }, () => ({ platform: PLATFORM, script: 'true' })));
  await pool.idle();
  await pool.checkRuns(ids);
}

if (logMib > 0) {
  await withPool(1, async (pool) => {
    await submitAndObserve(pool, scriptOf(flood(1_000)), { runs: 1, observers: 1 });
    const lines = Math.round((logMib * 2 ** 20) / LINE_BYTES);
    const work = submitAndObserve(pool, scriptOf(flood(lines)), { runs: 1, observers: 1 });
    await watched(pool, `a log of ${logMib} MiB (kept as far as a log is), one observer`, work);
  });
}
if (observers > 0) {
  await withPool(1, async (pool) => {
    const script = scriptOf(paced({ lines: 2_000, perSecond: 100, delayMs: 2_000 }));
    const work = submitAndObserve(pool, script, { runs: 1, observers });
    await watched(pool, `${observers} observers of one run of 100 lines/s`, work);
  });
}
if (runs > 0) {
  await withPool(runs, async (pool) => {
    const script = scriptOf(paced({ lines: 200, perSecond: 10, delayMs: 5_000 }));
    const work = submitAndObserve(pool, script, { runs, observers: 1 });
    await watched(pool, `${runs} observers of ${runs} runs of 10 lines/s`, work);
  });
}
if (artifactMib > 0) {
  await withPool(1, async (pool) => {
    const script = `head -c ${artifactMib * 2 ** 20} /dev/zero > artifact`;
    await watched(pool, `an artifact of ${artifactMib} MiB`, submitAndObserve(pool, script, { runs: 1, observers: 1 }));
  });
}
if (history > 0) {
  await withPool(1, async (pool) => {
    const queues = openBenchQueues(pool.redisUrl);
    const filled = fillHistory(queues, history, { platform: 'ended', job: (n) => `job-${n % 5}` }).finally(() => queues.close());
    await watched(pool, `a history of ${history} runs, while it is written`, filled);
    await watched(pool, 'after it, while 1,000 runs are executed', submitAndWait(pool, 1_000));
  });
}
