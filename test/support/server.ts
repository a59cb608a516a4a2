/** The server inside the test's own process, on a real Redis and a folder store, without a worker. */
import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import { storeScript } from '../../src/artifacts/script.ts';
import type { Store } from '../../src/artifacts/store.ts';
import type { LogLine } from '../../src/job/log-entry.ts';
import type { RunResult, RunSpec } from '../../src/job/run.ts';
import { sealLog } from '../../src/logs/seal.ts';
import { appendChunks, type LogId } from '../../src/logs/stream.ts';
import { createWakeUps } from '../../src/logs/wake-ups.ts';
import { openQueues, type Queues } from '../../src/queue/queues.ts';
import { claimAttempt, closeAttempt, commitResult, readRecord } from '../../src/queue/records.ts';
import { connect } from '../../src/redis/connection.ts';
import { bullLockKey, runQueue } from '../../src/redis/keys.ts';
import { wakeFollowers } from '../../src/redis/wake.ts';
import { createAccess } from '../../src/scheduler/access.ts';
import { createApp } from '../../src/scheduler/app.ts';
import { attemptState } from '../../src/scheduler/run-log.ts';
import type { ServerConfig } from '../../src/service/config.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startRedis, type TestRedis } from './redis.ts';
import { tempFolder } from './temp.ts';

export interface TestServer {
  url: string;
  /** The bootstrap token. */
  token: string;
  redis: TestRedis;
  queues: Queues;
  store: Store;
  app: FastifyInstance;
  storePath: string;
  /** As the first signal does. */
  drain(): Promise<void>;
  stop(): Promise<void>;
}

export async function startServer(): Promise<TestServer> {
  const folder = tempFolder();
  const redis = await startRedis();
  const logger = createLogger('test', 'silent');
  const token = `bootstrap-${randomUUID()}`;
  const queues: Queues = openQueues({ redisUrl: redis.url, logger, sealLog: (log) => sealLog(queues.redis, store, log) });
  const wakeUps = createWakeUps(connect(redis.url, 'patient'), queues.redis);
  const store = await openFolderStore(folder.path);
  const stopping = new AbortController();
  const config: ServerConfig = {
    redisUrl: redis.url,
    store: { kind: 'folder', path: folder.path },
    logLevel: 'silent',
    host: '127.0.0.1',
    port: 0,
    bootstrapToken: token,
    allowedHosts: ['builder.example'],
  };
  const app = await createApp({
    config,
    queues,
    store,
    logs: { redis: queues.redis, store, wakeUps, endOf: (log) => attemptState(queues, log) },
    storeScript: (text) => storeScript(store, text),
    access: createAccess({ redis: queues.redis, bootstrapToken: token }),
    logger,
    stopping: stopping.signal,
  });
  await app.listen({ host: config.host, port: 0 });
  const drain = async (): Promise<void> => {
    stopping.abort('test');
    await app.close();
  };
  const { port } = app.server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    token,
    redis,
    queues,
    store,
    app,
    storePath: folder.path,
    drain,
    stop: async () => {
      await drain();
      await wakeUps.close();
      await queues.close();
      await redis.stop();
      folder.remove();
    },
  };
}

/** An attempt of a run as a worker would have it. */
export interface Attempt extends LogId {
  spec: RunSpec;
  say(first: number, ...texts: string[]): Promise<void>;
  /** Ends without a result: another attempt follows. */
  interrupt(): Promise<void>;
  end(given?: Partial<RunResult>): Promise<RunResult>;
}

export async function beginAttempt({ queues: { redis } }: Pick<TestServer, 'queues'>, run: string): Promise<Attempt> {
  const spec = (await readRecord(redis, run))?.spec;
  if (spec === undefined) throw new Error(`no run ${run}`);
  const [token, claim] = [randomUUID(), randomUUID()];
  const lock = bullLockKey(runQueue(spec.platform), run);
  await redis.set(lock, token);
  const start = { claim, worker: 'w', startedAt: new Date().toISOString() };
  const claimed = await claimAttempt(redis, { id: run, platform: spec.platform, token, attemptsMade: 0, start });
  if (claimed.kind !== 'run') throw new Error(`claim: ${claimed.kind}`);
  const log = { run, attempt: claimed.attempt, claim };
  const end = () => ({ finishedAt: new Date().toISOString(), exitCode: 0, signal: null, killed: [] });
  const settle = async (): Promise<void> => {
    await redis.del(lock);
    await wakeFollowers(redis, run);
  };
  let lines = 0;
  return {
    ...log,
    spec,
    say: async (first, ...texts) => {
      const entries = texts.map((text, index): LogLine => ({ line: first + index, atMs: 0, source: 'stdout', text }));
      lines = first + texts.length - 1;
      const ndjson = Buffer.from(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
      await appendChunks(redis, log, [{ firstLine: first, lines: texts.length, ndjson }]);
    },
    interrupt: async () => {
      await closeAttempt(redis, { id: run, attempt: log.attempt, claim, end: { ...end(), outcome: 'interrupted' } });
      await settle();
    },
    end: async (given = {}) => {
      const made = { outcome: 'succeeded', exitCode: 0, signal: null, reason: null, attempt: log.attempt, claim, attemptsMade: 0 } as const;
      const digest = { lines, bytes: 0, sha256: '', truncated: false, missing: 0 };
      const result: RunResult = { ...made, finishedAt: new Date().toISOString(), log: digest, artifactCount: 0, ...given };
      await commitResult(redis, { spec, token, attempt: log.attempt, claim, result, end: { ...end(), outcome: result.outcome } });
      await settle();
      return result;
    },
  };
}
