/** After many runs everything is as before, but for what is kept of each on purpose. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { keys } from '../../src/redis/keys.ts';
import { type Pool, startPool } from '../support/pool.ts';
import type { Program } from '../support/system.ts';
import { until } from '../support/until.ts';

const RUNS = Number(process.env.SOAK_RUNS || 400);
const BATCH = 200;
/** V8 lets a heap grow to several times of what lives in it: the worker's does so over its first two thousand runs. */
const WARM_UP = Math.max(BATCH, Math.min(2_000, Math.floor(RUNS / 3)));
const MIB = 1024 * 1024;
/** What V8 and malloc may keep; a leak of ten kilobytes a run would be seen in ten thousand. */
const MEMORY_GROWTH_MAX = 64 * MIB;

const FEW_DESCRIPTORS = 40;

const SCRIPTS = [
  'true',
  'echo said; echo kept > kept.txt',
  'exit 3',
  'kill -9 $$',
  'setsid sleep 1000 > /dev/null 2>&1 & echo left',
  'seq 1 2000; mkdir -p a/b; seq 1 100 > a/b/c; mkfifo pipe',
];

let pool: Pool;
let worker: Program;

beforeAll(async () => {
  pool = await startPool({ workers: [] });
  mkdirSync(temporary());
  worker = await pool.startWorker('one', { sandbox: 'auto', concurrency: 4, env: { TMPDIR: temporary() } });
});

afterAll(() => pool.stop());

const temporary = (): string => join(pool.folder.path, 'tmp');

async function runMany(count: number): Promise<void> {
  for (let first = 0; first < count; first += BATCH) {
    const body = Array.from({ length: Math.min(BATCH, count - first) }, (_, index) => ({
      platform: 'test',
      script: SCRIPTS[(first + index) % SCRIPTS.length],
    }));
    expect((await pool.api('/runs', { method: 'POST', body })).status).toBe(201);
    await until(async () => (await pool.client.zcard(keys.openRuns('test'))) === 0, 'the batch to end', 120_000);
  }
  await until(async () => (await pool.client.llen('{builder}:run-test:active')) === 0, 'BullMQ to know');
}

/** What must be the same before and after. */
async function traces(): Promise<Record<string, number>> {
  const work = join(pool.folder.path, 'work', 'one');
  const held = (name: string): number => readdirSync(name).length;
  return {
    // It keeps a number of pipes for the next runs.
    'descriptors of the worker': Math.max(FEW_DESCRIPTORS, held(`/proc/${worker.child.pid}/fd`)),
    'descriptors of the server': held(`/proc/${pool.server.child.pid}/fd`),
    'processes of the worker': processesBelow(worker.child.pid ?? 0),
    'folders of runs': existsSync(`${work}/runs`) ? held(`${work}/runs`) : 0,
    'files of the worker': held(work),
    'temporary files': held(temporary()),
    'half-stored files': held(`${pool.storePath}/incoming`),
    'lasting keys in Redis': (await lastingKeys()).length,
  };
}

/** Neither kept of a run for its history, nor BullMQ's bounded lists, nor ending by themselves. */
async function lastingKeys(): Promise<string[]> {
  const all = (await pool.client.keys('*')).filter((key) => !/:b:run:|:b:run-ids:|\}:run-test:[0-9a-f-]{36}$/.test(key));
  const lives = await Promise.all(all.map((key) => pool.client.pttl(key)));
  return all.filter((_, index) => lives[index] === -1).filter((key) => !/runs:outcome:|:wake$|:events$/.test(key));
}

function processesBelow(pid: number): number {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid).length;
}

function parentOf(pid: string): number {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
  } catch {
    return 0;
  }
}

function memoryOf({ child }: Program): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, 'latin1'))?.[1]) * 1024;
}

it(`after ${RUNS} runs disk, memory, handles, processes and keys are as before`, async () => {
  // Whatever is made once is made by then.
  await runMany(WARM_UP);
  await until(async () => (await traces())['folders of runs'] === 0, 'the last folder to go');
  const before = await traces();
  const memory = { worker: memoryOf(worker), server: memoryOf(pool.server) };
  const usedBefore = await usedMemory();
  await runMany(RUNS);
  let after: Record<string, number> = {};
  await until(async () => {
    after = await traces();
    return Object.entries(after).every(([what, count]) => count <= (before[what] ?? 0));
  }, 'everything to be as before').catch(() => undefined);
  expect(after).toEqual(before);
  const grown = { worker: memoryOf(worker) - memory.worker, server: memoryOf(pool.server) - memory.server };
  const perRun = Math.round(((await usedMemory()) - usedBefore) / RUNS);
  const inMib = Object.entries(grown).map(([program, bytes]) => `${program} ${Math.round(bytes / MIB)} MiB`);
  process.stderr.write(
    `housekeeping: ${RUNS} runs; memory grown: ${inMib.join(', ')}; Redis: ${perRun} bytes a run, its log stream included\n`,
  );
  expect(Math.max(...Object.values(grown))).toBeLessThan(MEMORY_GROWTH_MAX);
  expect(await pool.client.zcard(keys.runs)).toBe(RUNS + WARM_UP);
}, 1_800_000);

async function usedMemory(): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await pool.client.info('memory'))?.[1]);
}
