/** What tells that a worker lives: its heartbeats, its locks, and the list of those that are heard of. */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { Worker } from 'bullmq';
import { EMPTY_LOG } from '../../src/job/artifact.ts';
import { limits } from '../../src/job/limits.ts';
import { requeueAbandoned } from '../../src/queue/abandoned.ts';
import { openQueues, type Queues } from '../../src/queue/queues.ts';
import { submitRun } from '../../src/queue/submit.ts';
import { beat, listWorkers } from '../../src/queue/workers.ts';
import { type ConnectionKind, connect, type Redis } from '../../src/redis/connection.ts';
import { BULL_PREFIX, bullActiveKey, bullLockKey, bullStalledCheckKey, bullWaitKey, keys, runQueue } from '../../src/redis/keys.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startHeartbeat } from '../../workers/heartbeat.ts';
import { createRunningRuns } from '../../workers/running-runs.ts';
import { freePorts } from '../support/free-ports.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { specOf } from '../support/specs.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const logger = createLogger('test', 'silent');
const NAME = 'w';
const WORKER = { name: NAME, platforms: ['test'], concurrency: 1, version: '1', sandbox: 'none' };
let port = 0;
let redis: TestRedis;
let queues: Queues;
const releases: (() => unknown)[] = [];

beforeAll(async () => {
  [port = 0] = await freePorts(1);
  redis = await startRedis(port);
  queues = openQueues({ redisUrl: redis.url, logger, sealLog: async () => EMPTY_LOG });
});

afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
  await queues.redis.flushall();
});

afterAll(async () => {
  await queues.close();
  await redis.stop();
});

function connected(url: string, kind: ConnectionKind = 'command'): Redis {
  const connection = connect(url, kind);
  releases.push(() => connection.disconnect());
  return connection;
}

it('a run whose worker died is found among more platforms than Lua can name at a time', async () => {
  const spec = specOf();
  const queue = runQueue('test');
  await submitRun(queues, spec);
  const worker = new Worker(queue, null, { connection: connected(redis.url, 'patient'), prefix: BULL_PREFIX, skipStalledCheck: true });
  releases.push(() => worker.close());
  expect(await worker.getNextJob('token')).toMatchObject({ id: spec.id });
  const others = Array.from({ length: 10_000 }, (_, n) => `other-${n}`);
  await queues.redis.sadd(keys.platforms, ...others);
  await queues.redis.del(bullLockKey(queue, spec.id));
  // Servers have looked for long, as far as is known.
  const now = Date.now();
  await queues.redis.hset(keys.watch, { at: now, since: now - 2 * limits.lockDurationMs });
  await until(async () => {
    await queues.redis.del(bullStalledCheckKey(queue));
    await requeueAbandoned(queues);
    return (await queues.redis.lrange(bullWaitKey(queue), 0, '-1')).includes(spec.id);
  }, 'the run to wait again');
  expect(await queues.redis.exists(bullActiveKey(queue))).toBe(0);
});

it('a worker that says so while it is found dead stays listed', async () => {
  await beat(queues.redis, { ...WORKER, running: 0 }, [], false);
  await queues.redis.del(keys.worker(NAME));
  const pipeline = (): unknown => {
    const made = queues.redis.pipeline();
    const exec = async (): Promise<unknown> => {
      const answers = await made.exec();
      await beat(queues.redis, { ...WORKER, running: 0 }, [], true);
      return answers;
    };
    return Object.assign(Object.create(made), { get: made.get.bind(made), exec });
  };
  const late = Object.assign(Object.create(queues.redis), { pipeline });
  expect(await listWorkers({ ...queues, redis: late })).toEqual([]);
  expect(await listWorkers(queues)).toMatchObject([{ name: NAME }]);
});

it('a worker of which Redis has lost the name is listed again after some heartbeats', async () => {
  const heartbeat = await startHeartbeat({
    redis: connected(redis.url),
    subscriber: connected(redis.url),
    worker: WORKER,
    running: createRunningRuns(),
    logger,
  });
  releases.push(heartbeat.close);
  await queues.redis.del(keys.workers, keys.platforms);
  await until(
    async () => (await listWorkers(queues)).length === 1,
    'the worker to be listed',
    3 * limits.heartbeatMs * limits.heartbeatsShortMax,
  );
  expect(await queues.redis.smembers(keys.platforms)).toEqual(['test']);
});

it('a heartbeat whose answer is lost is no news that stays', async () => {
  const proxy = await startTcpProxy(port);
  releases.push(proxy.stop);
  const running = createRunningRuns();
  const through = connected(redis.tcpUrl.replace(String(port), String(proxy.port)));
  let failed = 0;
  const counting: typeof logger = Object.assign(Object.create(logger), { debug: () => (failed += 1) });
  const heartbeat = await startHeartbeat({ redis: through, subscriber: connected(redis.url), worker: WORKER, running, logger: counting });
  releases.push(heartbeat.close);
  const told = async (): Promise<number> => JSON.parse((await queues.redis.get(keys.worker(NAME))) ?? '{}').running;
  expect(await told()).toBe(0);
  const id = randomUUID();
  const lost = proxy.trip({
    text: '"running":1',
    side: 'after',
    act: async () => {
      await until(async () => (await told()) === 1, 'Redis to have the news');
      await proxy.set('refuse');
      return 'drop';
    },
  });
  running.add(id, { attempt: 1, claim: 'c', record: {} as never, cancel: new AbortController(), executed: false });
  await lost;
  running.remove(id, 'c');
  await until(() => failed > 0, 'the heartbeat to fail');
  await proxy.set('pass');
  // Before a whole one is due anyway.
  await until(async () => (await told()) === 0, 'Redis to know better', limits.heartbeatMs * limits.heartbeatsShortMax);
});
