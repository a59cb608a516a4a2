/** A system to be measured: Redis, one server and workers, each a program of its own, with nothing between them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { RunRecord } from '../../src/job/run.ts';
import { readRecords } from '../../src/queue/records.ts';
import { connect, type Redis } from '../../src/redis/connection.ts';
import { bullActiveKey, keys, runQueue } from '../../src/redis/keys.ts';
import { freePorts } from '../../test/support/free-ports.ts';
import { startRedis, type TestRedis } from '../../test/support/redis.ts';
import { type Program, startProgram } from '../../test/support/system.ts';
import { until } from '../../test/support/until.ts';
import { Void } from '../figure.ts';
import { scratchFolder } from './scratch.ts';

const TOKEN = 'a-bootstrap-token-of-a-bench';
export const PLATFORM = 'bench';
const POLL_MS = 20;

export interface PoolOptions {
  workers: number;
  concurrency: number;
  sandbox: 'bwrap' | 'unshare' | 'none';
  /** The variables that name another store than a folder. */
  store?: Record<string, string>;
}

/** What is wrong with a run, if anything. */
export type Check = (record: RunRecord) => string | null | Promise<string | null>;

export interface BenchPool {
  url: string;
  token: string;
  folder: string;
  storePath: string;
  redis: Redis;
  redisUrl: string;
  redisPid: number;
  server: Program;
  workers: Program[];
  post<T>(path: string, body: object): Promise<T>;
  get(path: string, headers?: Record<string, string>): Promise<Response>;
  /** Submits runs in batches of one request each; their ids. */
  submit(runs: object[]): Promise<string[]>;
  /** Resolves when no run of the platform is open and no worker holds one. */
  idle(): Promise<void>;
  /** Throws Void unless each has ended once, at its first attempt, as `succeeded`. */
  checkRuns(ids: string[], check?: Check): Promise<void>;
  startWorker(name: string, o: PoolOptions): Promise<Program>;
  /** Ends all. `onDisk`: runs that a Redis must still know, as checkRuns, that is cut off and started again; else throws Void. */
  close(onDisk?: string[]): Promise<void>;
}

export async function startPool(o: PoolOptions): Promise<BenchPool> {
  const folder = scratchFolder();
  const [port = 0] = await freePorts(1);
  const database = await startRedis();
  const redis = connect(database.url, 'command');
  const storePath = `${folder.path}/store`;
  mkdirSync(`${folder.path}/work`);
  writeFileSync(`${folder.path}/token`, `${TOKEN}\n`);
  const env = {
    ...(o.store ?? { BUILDER_STORE: `file://${storePath}` }),
    BUILDER_REDIS_URL: database.url,
    BUILDER_BOOTSTRAP_TOKEN_FILE: `${folder.path}/token`,
    BUILDER_LOG_LEVEL: 'warn',
    BUILDER_PORT: String(port),
    BUILDER_WORK_DIR: `${folder.path}/work`,
  };
  const url = `http://127.0.0.1:${port}`;
  const headers = { authorization: `Bearer ${TOKEN}` };
  const server = startProgram(['server'], { env });
  const programs = [server];
  const ready = (): Promise<boolean> =>
    fetch(`${url}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until(ready, 'the server to be ready');
  const startWorker = async (name: string, w: PoolOptions): Promise<Program> => {
    const flags = ['--platform', PLATFORM, '--name', name, '--concurrency', String(w.concurrency), '--sandbox', w.sandbox];
    const program = startProgram(['worker', ...flags], { env });
    programs.push(program);
    await until(async () => (await redis.exists(keys.worker(name))) === 1, `the worker ${name}`);
    return program;
  };
  const workers: Program[] = [];
  for (let n = 1; n <= o.workers; n += 1) workers.push(await startWorker(`worker-${n}`, o));
  const post = async <T>(path: string, body: object): Promise<T> => {
    const answer = await fetch(`${url}/api/v1${path}`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  };
  return {
    url,
    token: TOKEN,
    folder: folder.path,
    storePath,
    redis,
    redisUrl: database.url,
    redisPid: database.pid,
    server,
    workers,
    startWorker,
    post,
    get: (path, more = {}) => fetch(`${url}/api/v1${path}`, { headers: { ...headers, ...more } }),
    submit: async (runs) => {
      const ids: string[] = [];
      for (let at = 0; at < runs.length; at += BATCH) {
        const answer = await post<{ runs: { id: string }[] }>('/runs', runs.slice(at, at + BATCH));
        ids.push(...answer.runs.map(({ id }) => id));
      }
      return ids;
    },
    idle: async () => {
      const open = [keys.openRuns(PLATFORM), bullActiveKey(runQueue(PLATFORM))] as const;
      while ((await redis.zcard(open[0])) > 0 || (await redis.llen(open[1])) > 0) await delay(POLL_MS);
    },
    checkRuns: (ids, check) => checkRuns(redis, ids, check),
    close: async (onDisk = []) => {
      redis.disconnect();
      for (const { child } of programs) child.kill('SIGTERM');
      await Promise.all(programs.map(({ ended }) => ended));
      try {
        if (onDisk.length > 0) await checkOnDisk(database, onDisk);
      } finally {
        await database.stop();
        folder.remove();
      }
    },
  };
}

/** Runs of one request. */
export const BATCH = 1_000;

/** Redis writes its file once a second. */
const WRITTEN_MS = 1_500;

async function checkOnDisk(database: TestRedis, ids: string[]): Promise<void> {
  await delay(WRITTEN_MS);
  await database.kill();
  await database.start();
  const again = connect(database.url, 'command');
  await checkRuns(again, ids).finally(() => again.disconnect());
}

async function checkRuns(redis: Redis, ids: string[], check: Check = () => null): Promise<void> {
  for (let at = 0; at < ids.length; at += BATCH) {
    for (const record of await readRecords(redis, ids.slice(at, at + BATCH))) await checkRun(record, check);
  }
}

async function checkRun(record: RunRecord | null, check: Check): Promise<void> {
  if (record === null) throw new Void('expected a record of each run, got none of one');
  const { result, attempts } = record;
  if (result?.outcome !== 'succeeded' || attempts.length !== 1) {
    throw new Void(`expected success at the first attempt, got ${result?.outcome} after ${attempts.length}: ${result?.reason}`);
  }
  const wrong = await check(record);
  if (wrong !== null) throw new Void(wrong);
}
