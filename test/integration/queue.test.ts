import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { UnrecoverableError, Worker } from 'bullmq';
import { EMPTY_LOG } from '../../src/job/artifact.ts';
import { limits } from '../../src/job/limits.ts';
import type { RunResult } from '../../src/job/run.ts';
import { ageWaiting } from '../../src/queue/aging.ts';
import { PRIORITY_NUMBERS } from '../../src/queue/bull-jobs.ts';
import { requestCancel, retryRun } from '../../src/queue/cancel.ts';
import { consumeRuns, type Delivery, type Handled } from '../../src/queue/consume.ts';
import { dropPlatform, undropPlatform } from '../../src/queue/platforms.ts';
import { openQueues, platformQueue, type Queues } from '../../src/queue/queues.ts';
import { type AttemptEnd, claimAttempt, closeAttempt, commitResult, createRecord, readRecord } from '../../src/queue/records.ts';
import { listRuns } from '../../src/queue/run-list.ts';
import { startServerDuties } from '../../src/queue/server-duties.ts';
import { submitRun } from '../../src/queue/submit.ts';
import { getInfo, getRun, resolveRunId } from '../../src/queue/view.ts';
import { connect, type Redis } from '../../src/redis/connection.ts';
import { BULL_PREFIX, bullActiveKey, bullJobKey, bullLockKey, keys, runQueue } from '../../src/redis/keys.ts';
import { aborted } from '../../src/service/lifecycle.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { specOf } from '../support/specs.ts';
import { until } from '../support/until.ts';

const NEVER = new AbortController().signal;

const logger = createLogger('test', 'silent');
const storeScript = async (text: string) => ({ sha256: '0'.repeat(64), bytes: text.length });
let redis: TestRedis;
let queues: Queues;
let connection: Redis;
const releases: (() => Promise<void>)[] = [];

beforeAll(async () => {
  redis = await startRedis();
  queues = openQueues({ redisUrl: redis.url, logger, sealLog: async () => EMPTY_LOG });
  connection = connect(redis.url, 'patient');
});

afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
  await queues.redis.flushall();
});

afterAll(async () => {
  await queues.close();
  connection.disconnect();
  await redis.stop();
});

function resultOf(delivery: Delivery, attempt: number, claim: string, given: Partial<RunResult> = {}): RunResult {
  const made = {
    outcome: 'succeeded',
    exitCode: 0,
    signal: null,
    reason: null,
    attempt,
    claim,
    attemptsMade: delivery.attemptsMade,
  } as const;
  return { ...made, finishedAt: new Date().toISOString(), log: EMPTY_LOG, artifactCount: 0, ...given };
}

function consume(platform: string, handle: (delivery: Delivery) => Promise<Handled>): void {
  const options = { connection, platform, concurrency: 1, workerName: 'w', logger, handle, claimOf: () => null };
  const consumer = consumeRuns(options);
  releases.push(() => consumer.close());
}

const isFinished = ({ state }: { state: string }): boolean => state === 'finished';

/** Claims a delivery and commits it at once, as a worker with a script that does nothing would. */
async function execute(delivery: Delivery, given: Partial<RunResult> = {}): Promise<Handled> {
  const claim = randomUUID();
  const start = { claim, worker: 'w', startedAt: new Date().toISOString() };
  const answer = await claimAttempt(connection, { ...delivery, start });
  if (answer.kind === 'adopt') return { kind: 'result', result: answer.result };
  if (answer.kind !== 'run') throw new Error(`claim: ${answer.kind}`);
  const record = await readRecord(connection, delivery.id);
  const result = resultOf(delivery, answer.attempt, claim, given);
  if (record !== null) {
    const end = { finishedAt: result.finishedAt, outcome: result.outcome, exitCode: result.exitCode, signal: null, killed: [] };
    await commitResult(connection, { spec: record.spec, token: delivery.token, attempt: answer.attempt, claim, result, end });
  }
  return { kind: 'result', result };
}

describe('a run', () => {
  it('is waiting once accepted, and finished once a worker committed its result', async () => {
    const spec = specOf();
    expect(await submitRun(queues, spec)).toBe('accepted');
    expect(await getRun(queues, spec.id)).toMatchObject({ state: 'waiting', outcome: null, attempt: 0 });
    consume('test', (delivery) => execute(delivery));
    const run = await until(async () => {
      const seen = await getRun(queues, spec.id);
      return seen.state === 'finished' && seen;
    }, 'the run to finish');
    expect(run).toMatchObject({ outcome: 'succeeded', exitCode: 0, attempt: 1, worker: 'w' });
    expect(run.attempts).toHaveLength(1);
    expect(run.attempts[0]).not.toHaveProperty('claim');
  });

  it('is submitted once, however often its id is submitted at the same time', async () => {
    const spec = specOf();
    const answers = await Promise.all(Array.from({ length: 50 }, () => submitRun(queues, spec)));
    expect(answers.filter((answer) => answer === 'accepted')).toHaveLength(1);
    expect(await platformQueue(queues, 'test').getJobCountByTypes('wait', 'prioritized')).toBe(1);
  });

  it('is not submitted again after its BullMQ job is gone', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    await platformQueue(queues, 'test').remove(spec.id);
    expect(await submitRun(queues, spec)).toBe('known');
    expect(await platformQueue(queues, 'test').getJob(spec.id)).toBeUndefined();
  });

  it('whose BullMQ job a crash left out is queued by any server', async () => {
    const spec = specOf();
    await createRecord(queues.redis, spec);
    const duties = startServerDuties({ queues, storeScript });
    releases.push(duties.close);
    await until(() => platformQueue(queues, 'test').getJob(spec.id), 'the job to be queued');
  });

  it('whose BullMQ job is lost is queued again by any server, and one that has ended is not', async () => {
    const [lost, ended] = [specOf(), specOf()];
    for (const spec of [lost, ended]) await submitRun(queues, spec);
    await requestCancel(queues, ended.id, null);
    expect(await queues.redis.zrange(keys.openRuns('test'), '0', '-1')).toEqual([lost.id]);
    await platformQueue(queues, 'test').remove(lost.id);
    const duties = startServerDuties({ queues, storeScript });
    releases.push(duties.close);
    consume('test', execute);
    await until(async () => (await getRun(queues, lost.id)).outcome === 'succeeded', 'the run to end');
    expect(await getRun(queues, ended.id)).toMatchObject({ outcome: 'cancelled', attempt: 0 });
    expect(await queues.redis.zcard(keys.openRuns('test'))).toBe(0);
  });

  it('whose BullMQ job has ended without a result is queued again by any server', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    const worker = new Worker(runQueue('test'), () => Promise.reject(new UnrecoverableError('not builder’s doing')), {
      connection,
      prefix: BULL_PREFIX,
    });
    const queue = platformQueue(queues, 'test');
    await until(async () => (await queue.getJobState(spec.id)) === 'failed', 'BullMQ to call it failed');
    await worker.close();
    const duties = startServerDuties({ queues, storeScript });
    releases.push(duties.close);
    consume('test', execute);
    await until(async () => (await getRun(queues, spec.id)).outcome === 'succeeded', 'the run to end');
  });

  it('of higher priority is taken first, in order of acceptance within each', async () => {
    const low = specOf({ priority: 'low' });
    const normal = [specOf(), specOf()];
    const high = specOf({ priority: 'high' });
    const execute1 = specOf({ trigger: 'execute' });
    for (const spec of [low, ...normal, high, execute1]) await submitRun(queues, spec);
    const expected = [execute1, high, ...normal, low].map((spec) => spec.id);
    expect((await getInfo(queues)).queues.test?.next.map((run) => run.id)).toEqual(expected);
    const taken: string[] = [];
    consume('test', async (delivery) => {
      taken.push(delivery.id);
      return execute(delivery);
    });
    await until(() => taken.length === 5, 'five runs to be taken');
    expect(taken).toEqual(expected);
  });

  it('ages by the clock of Redis, not by that of the server that accepted it', async () => {
    const spec = specOf({ priority: 'low' });
    await submitRun(queues, spec);
    const priority = async () => (await platformQueue(queues, spec.platform).getJob(spec.id))?.priority;
    const aDayAgo = Date.now() - 86_400_000;
    await queues.redis.hset(bullJobKey(runQueue(spec.platform), spec.id), 'timestamp', aDayAgo);
    await ageWaiting(queues);
    expect(await priority()).toBe(PRIORITY_NUMBERS.low);
    await queues.redis.zincrby(keys.openRuns(spec.platform), -limits.agingMs, spec.id);
    await ageWaiting(queues);
    expect(await priority()).toBe(PRIORITY_NUMBERS.normal);
    await queues.redis.zincrby(keys.openRuns(spec.platform), -limits.agingMs, spec.id);
    await ageWaiting(queues);
    expect(await priority()).toBe(PRIORITY_NUMBERS.high);
  });

  it('that waits for its next attempt is started when it is due by the clock of Redis, whatever the clocks of workers say', async () => {
    const spec = specOf();
    const delays = [600_000];
    const taken: string[] = [];
    consume(spec.platform, async (delivery) => {
      taken.push(delivery.id);
      const [delayMs] = delays.splice(0, 1);
      return delayMs === undefined ? execute(delivery) : { kind: 'back', delayMs };
    });
    const duties = startServerDuties({ queues, storeScript });
    releases.push(() => duties.close());
    await submitRun(queues, spec);
    await until(async () => (await getRun(queues, spec.id)).state === 'delayed', 'the run to be delayed');
    // A worker whose clock is a day ahead asks for a job.
    const aDayAhead = (Date.now() + 86_400_000) * 0x1000;
    expect(await queues.redis.zcount(`${BULL_PREFIX}:${runQueue(spec.platform)}:delayed`, 0, aDayAhead)).toBe(0);
    expect(taken).toEqual([spec.id]);
    await queues.redis.zincrby(keys.retries, -600_000, spec.id);
    await until(async () => (await getRun(queues, spec.id)).state === 'finished', 'the run to end');
    expect(taken).toEqual([spec.id, spec.id]);
    await until(async () => (await queues.redis.zcard(keys.retries)) === 0, 'the retry to be forgotten');
  });

  it('that was interrupted goes back and is taken by an idle worker', async () => {
    const spec = specOf();
    let deliveries = 0;
    consume('test', async (delivery) => {
      deliveries += 1;
      return deliveries === 1 ? { kind: 'back' } : execute(delivery);
    });
    await submitRun(queues, spec);
    await until(async () => (await getRun(queues, spec.id)).state === 'finished', 'the run to finish');
    expect(deliveries).toBe(2);
    expect((await getRun(queues, spec.id)).attempts).toHaveLength(1);
  });

  it('that failed is a failed job on the board with the outcome as its reason, and is not tried again by BullMQ', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    consume('test', (delivery) => execute(delivery, { outcome: 'failed', exitCode: 3 }));
    await until(async () => (await platformQueue(queues, 'test').getJobState(spec.id)) === 'failed', 'the job to fail');
    expect(await platformQueue(queues, 'test').getJob(spec.id)).toMatchObject({ failedReason: 'failed: exit code 3', attemptsMade: 1 });
  });

  it('retried on purpose gets a second attempt, and the first stays visible', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    consume('test', (delivery) => execute(delivery, { outcome: 'failed', exitCode: 3 }));
    await until(async () => (await platformQueue(queues, 'test').getJobState(spec.id)) === 'failed', 'the job to fail');
    await retryRun(queues, spec.id);
    const run = await until(async () => {
      const seen = await getRun(queues, spec.id);
      return seen.attempt === 2 && seen.state === 'finished' && seen;
    }, 'the second attempt to finish');
    expect(run.attempts.map((attempt) => attempt.number)).toEqual([1, 2]);
  });
});

describe('fencing', () => {
  const request = (spec: { id: string }, token: string, claim: string) => ({
    id: spec.id,
    platform: 'test',
    token,
    attemptsMade: 0,
    start: { claim, worker: 'w', startedAt: new Date().toISOString() },
  });

  async function activeRun(): Promise<{ spec: ReturnType<typeof specOf>; lock: string }> {
    const spec = specOf();
    await createRecord(queues.redis, spec);
    const lock = `{builder}:run-test:${spec.id}:lock`;
    return { spec, lock };
  }

  it('refuses the result of an attempt that another one has replaced', async () => {
    const { spec, lock } = await activeRun();
    const delivery = { id: spec.id, platform: 'test', token: 'one', attemptsMade: 0, lost: NEVER, restore: async () => undefined };
    await queues.redis.set(lock, 'one');
    expect(await claimAttempt(queues.redis, request(spec, 'one', 'claim-1'))).toMatchObject({ kind: 'run', attempt: 1, retries: 0 });
    await queues.redis.set(lock, 'two');
    expect(await claimAttempt(queues.redis, request(spec, 'two', 'claim-2'))).toMatchObject({ kind: 'run', attempt: 2, retries: 0 });
    const late = { spec, token: 'one', attempt: 1, claim: 'claim-1', result: resultOf(delivery, 1, 'claim-1'), end: null };
    expect(await commitResult(queues.redis, late)).toBe('superseded');
    const good = { spec, token: 'two', attempt: 2, claim: 'claim-2', result: resultOf(delivery, 2, 'claim-2'), end: null };
    expect(await commitResult(queues.redis, good)).toBe('committed');
    expect(await commitResult(queues.redis, good)).toBe('committed');
    expect(await commitResult(queues.redis, late)).toBe('already');
    const record = await readRecord(queues.redis, spec.id);
    expect(record?.result?.claim).toBe('claim-2');
    expect(record?.attempts[0]?.outcome).toBe('superseded');
  });

  it('takes a claim that is repeated, since its answer was lost, for the same attempt', async () => {
    const { spec, lock } = await activeRun();
    await queues.redis.set(lock, 'one');
    for (const _ of [1, 2])
      expect(await claimAttempt(queues.redis, request(spec, 'one', 'claim-1'))).toMatchObject({ kind: 'run', attempt: 1, retries: 0 });
    expect((await readRecord(queues.redis, spec.id))?.attempts).toHaveLength(1);
  });

  it('takes a lock that ran out on the way to the claim again, but not from one who may be at work', async () => {
    const { spec, lock } = await activeRun();
    await queues.redis.lpush(bullActiveKey(runQueue('test')), spec.id);
    const first = request(spec, 'one', 'claim-1');
    for (const _ of ['on the way', 'with the answer'])
      expect([await claimAttempt(queues.redis, first), await queues.redis.getdel(lock)]).toMatchObject([
        { kind: 'run', attempt: 1, retries: 0, record: { spec, attempts: [{ claim: 'claim-1' }] } },
        'one',
      ]);
    expect(await claimAttempt(queues.redis, request(spec, 'two', 'claim-2'))).toEqual({ kind: 'unlocked' });
    await queues.redis.lrem(bullActiveKey(runQueue('test')), 0, spec.id);
    expect(await claimAttempt(queues.redis, first)).toEqual({ kind: 'unlocked' });
  });

  it('accepts the result of a worker whose lock expired while nobody else took the run', async () => {
    const { spec, lock } = await activeRun();
    const delivery = { id: spec.id, platform: 'test', token: 'one', attemptsMade: 0, lost: NEVER, restore: async () => undefined };
    await queues.redis.set(lock, 'one');
    await claimAttempt(queues.redis, request(spec, 'one', 'claim-1'));
    await queues.redis.del(lock);
    const late = { spec, token: 'one', attempt: 1, claim: 'claim-1', result: resultOf(delivery, 1, 'claim-1'), end: null };
    expect(await commitResult(queues.redis, late)).toBe('committed');
  });

  it('lets a redelivery adopt a committed result, and runs again when BullMQ counts one attempt more', async () => {
    const { spec, lock } = await activeRun();
    const delivery = { id: spec.id, platform: 'test', token: 'one', attemptsMade: 0, lost: NEVER, restore: async () => undefined };
    await queues.redis.set(lock, 'one');
    await claimAttempt(queues.redis, request(spec, 'one', 'claim-1'));
    await commitResult(queues.redis, {
      spec,
      token: 'one',
      attempt: 1,
      claim: 'claim-1',
      result: resultOf(delivery, 1, 'claim-1'),
      end: null,
    });
    expect(await claimAttempt(queues.redis, request(spec, 'one', 'claim-2'))).toMatchObject({
      kind: 'adopt',
      result: { claim: 'claim-1' },
    });
    expect(await claimAttempt(queues.redis, { ...request(spec, 'one', 'claim-3'), attemptsMade: 1 })).toMatchObject({
      kind: 'run',
      attempt: 2,
      retries: 0,
    });
  });

  it('gives a run up after a bounded number of worker deaths', async () => {
    const { spec, lock } = await activeRun();
    await queues.redis.set(lock, 'one');
    const kinds: string[] = [];
    for (let claim = 0; claim < 5; claim += 1) kinds.push((await claimAttempt(queues.redis, request(spec, 'one', `claim-${claim}`))).kind);
    expect(kinds).toEqual(['run', 'run', 'run', 'dead', 'dead']);
  });
});

describe('cancelling', () => {
  it('ends a waiting run at once', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    const run = await requestCancel(queues, spec.id, 'not needed');
    expect(run).toMatchObject({ state: 'finished', outcome: 'cancelled', reason: 'cancelled: not needed' });
    expect(run.cancelRequestedAt).not.toBeNull();
    expect(await platformQueue(queues, 'test').getJob(spec.id)).toBeUndefined();
  });

  it('of a finished run is refused, of an unknown one too', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    await requestCancel(queues, spec.id, null);
    await expect(requestCancel(queues, spec.id, null)).rejects.toMatchObject({ code: 'conflict' });
    await expect(requestCancel(queues, randomUUID(), null)).rejects.toMatchObject({ code: 'not-found' });
  });

  it('ends a run whose worker died, though no worker is left', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    const duties = startServerDuties({ queues, storeScript });
    releases.push(duties.close);
    const queue = platformQueue(queues, 'test');
    // A worker that dies right after its claim: the job is active, and its lock runs out.
    const dead = new AbortController();
    consume('test', () => new Promise<Handled>((resolve) => dead.signal.addEventListener('abort', () => resolve({ kind: 'gone' }))));
    releases.push(async () => dead.abort());
    await until(async () => (await queue.getJobState(spec.id)) === 'active', 'the run to be active');
    await queues.redis.del(`{builder}:run-test:${spec.id}:lock`);
    await requestCancel(queues, spec.id, null);
    await until(async () => (await getRun(queues, spec.id)).state === 'finished', 'the run to end');
    expect(await getRun(queues, spec.id)).toMatchObject({ outcome: 'cancelled' });
  });

  it('that cannot be settled, the store being away, holds up neither another one nor a retry', async () => {
    const away = openQueues({ redisUrl: redis.url, logger, sealLog: () => Promise.reject(new Error('the store is away')) });
    const duties = startServerDuties({ queues: away, storeScript });
    releases.push(async () => {
      await duties.close();
      await away.close();
    });
    const [stuck, retried] = [specOf(), specOf({ platform: 'other' })];
    await createRecord(queues.redis, stuck);
    await queues.redis.zrem(keys.accepting, stuck.id);
    const lock = `{builder}:run-test:${stuck.id}:lock`;
    await queues.redis.set(lock, 'one');
    const start = { claim: 'claim', worker: 'w', startedAt: new Date().toISOString() };
    await claimAttempt(queues.redis, { id: stuck.id, platform: 'test', token: 'one', attemptsMade: 0, start });
    await queues.redis.del(lock);
    await requestCancel(away, stuck.id, null);
    const delays = [500];
    consume('other', async (delivery) => {
      const [delayMs] = delays.splice(0, 1);
      return delayMs === undefined ? execute(delivery) : { kind: 'back', delayMs };
    });
    await submitRun(queues, retried);
    await until(async () => (await getRun(queues, retried.id)).state === 'finished', 'the retry to be started');
    expect(await getRun(queues, stuck.id)).toMatchObject({ outcome: null, cancelRequestedAt: expect.any(String) });
  });
});

describe('a worker with several places', () => {
  it('begins with the first run before it has the last', async () => {
    for (let count = 0; count < 8; count += 1) await submitRun(queues, specOf());
    const active = bullActiveKey(runQueue('test'));
    let had: number | null = null;
    const handle = async (delivery: Delivery): Promise<Handled> => {
      had ??= await connection.llen(active);
      return execute(delivery);
    };
    // A question behind those that are on their way is answered after them.
    const consumer = consumeRuns({ connection, platform: 'test', concurrency: 8, workerName: 'w', logger, handle, claimOf: () => null });
    releases.push(() => consumer.close());
    await until(() => had !== null, 'the first run to be handed out');
    expect(had).toBeLessThanOrEqual(3);
  });

  it('goes on at once where BullMQ bounds how many jobs of the queue are active, however many places it has', async () => {
    const specs = Array.from({ length: 4 }, () => specOf());
    await platformQueue(queues, 'test').setGlobalConcurrency(1);
    const begunAtMs: number[] = [];
    const handle = async (delivery: Delivery): Promise<Handled> => {
      begunAtMs.push(performance.now());
      return execute(delivery);
    };
    const consumer = consumeRuns({ connection, platform: 'test', concurrency: 2, workerName: 'w', logger, handle, claimOf: () => null });
    releases.push(() => consumer.close());
    for (const spec of specs) await submitRun(queues, spec);
    // Each in vain would wait for as long.
    await until(() => begunAtMs.length === 4, 'all to be begun', limits.queueWaitMs - 1_000);
  });

  it('leaves its thread to others while BullMQ bounds the rate of the queue', async () => {
    const specs = Array.from({ length: 2 }, () => specOf());
    await platformQueue(queues, 'test').setGlobalRateLimit(1, 1_500);
    const had: string[] = [];
    const handle = async (delivery: Delivery): Promise<Handled> => {
      had.push(delivery.id);
      return execute(delivery);
    };
    const consumer = consumeRuns({ connection, platform: 'test', concurrency: 2, workerName: 'w', logger, handle, claimOf: () => null });
    releases.push(() => consumer.close());
    for (const spec of specs) await submitRun(queues, spec);
    await until(() => had.length === 1, 'the first to be begun');
    let turns = 0;
    await until(() => {
      turns += 1;
      return had.length === 2;
    }, 'the other to be begun');
    expect(turns).toBeGreaterThan(5);
  });

  it('is not held up by jobs that BullMQ cannot read', async () => {
    const spec = specOf();
    const queue = platformQueue(queues, 'test');
    const bad = Array.from({ length: 6 }, (_, index) => `bad-${index}`);
    for (const id of bad)
      await queues.redis.hset(bullJobKey(runQueue('test'), id), {
        name: 'x',
        data: 'not json',
        opts: '{}',
        timestamp: 1,
        delay: 0,
        priority: 0,
      });
    await queues.redis.lpush(queue.toKey('wait'), ...bad);
    await submitRun(queues, spec);
    let isBegun = false;
    consume('test', (delivery) => {
      isBegun = true;
      return execute(delivery);
    });
    await until(() => isBegun, 'the run behind them to be begun', bad.length * limits.faultPauseMs - 1_000);
  });

  it('takes no more than it may have, and goes on with those that it has', async () => {
    const specs = Array.from({ length: 6 }, () => specOf());
    for (const spec of specs) await submitRun(queues, spec);
    const free = new AbortController();
    const had: string[] = [];
    const handle = async (delivery: Delivery): Promise<Handled> => {
      had.push(delivery.id);
      await aborted(free.signal);
      return execute(delivery);
    };
    const consumer = consumeRuns({ connection, platform: 'test', concurrency: 3, workerName: 'w', logger, handle, claimOf: () => null });
    releases.push(async () => {
      free.abort();
      await consumer.close();
    });
    await until(() => had.length === 3, 'the worker to have three');
    consumer.bound(0);
    free.abort();
    const finished = async (): Promise<number> => (await Promise.all(specs.map(({ id }) => getRun(queues, id)))).filter(isFinished).length;
    await until(async () => (await finished()) === 3, 'the three to end');
    expect(had).toHaveLength(3);
    consumer.bound(2);
    await until(async () => (await finished()) === 6, 'the others to end');
    expect(new Set(had).size).toBe(6);
  });
});

describe('platforms', () => {
  it('that are dropped take no runs, and what waited is cancelled with that reason', async () => {
    const spec = specOf();
    await submitRun(queues, spec);
    await dropPlatform(queues, 'test');
    expect(await getRun(queues, spec.id)).toMatchObject({ outcome: 'cancelled', reason: expect.stringContaining('platform-dropped') });
    await expect(submitRun(queues, specOf())).rejects.toMatchObject({ code: 'platform-dropped' });
    await undropPlatform(queues, 'test');
    expect(await submitRun(queues, specOf())).toBe('accepted');
  });

  it('that are dropped end what a worker was given and has not begun, and leave what it has begun', async () => {
    const [given, again, begun] = [specOf(), specOf(), specOf()];
    const [free, over] = [new AbortController(), new AbortController()];
    const claims = new Map<string, string>();
    const closed = new Set<string>();
    let isGivenAgain = false;
    const options = { connection, platform: 'test', workerName: 'w', logger, claimOf: (): null => null };
    const handle = async (delivery: Delivery): Promise<Handled> => {
      const start = { claim: randomUUID(), worker: 'w', startedAt: new Date().toISOString() };
      if (closed.has(delivery.id)) isGivenAgain = true;
      if (delivery.id === given.id || closed.has(delivery.id)) await aborted(free.signal);
      const claim = await claimAttempt(connection, { ...delivery, start });
      claims.set(delivery.id, claim.kind);
      if (delivery.id === again.id && claim.kind === 'run') {
        closed.add(delivery.id);
        const end: AttemptEnd = { finishedAt: start.startedAt, outcome: 'interrupted', exitCode: null, signal: null, killed: [] };
        await closeAttempt(connection, { id: again.id, attempt: claim.attempt, claim: start.claim, end });
        return { kind: 'back' };
      }
      await aborted(over.signal);
      return { kind: 'back' };
    };
    const consumer = consumeRuns({ ...options, concurrency: 3, handle });
    releases.push(async () => {
      for (const one of [free, over]) one.abort();
      await consumer.close();
    });
    for (const spec of [given, again, begun]) await submitRun(queues, spec);
    const isTaken = async (id: string): Promise<boolean> => (await queues.redis.exists(bullLockKey(runQueue('test'), id))) === 1;
    await until(() => isTaken(given.id), 'the worker to have the run');
    await until(() => isGivenAgain, 'the worker to have the one that was interrupted again');
    await until(() => claims.get(begun.id) === 'run', 'the worker to begin the other');
    await dropPlatform(queues, 'test');
    const reason = expect.stringContaining('platform-dropped');
    for (const { id } of [given, again]) expect(await readRecord(queues.redis, id)).toMatchObject({ cancel: { reason } });
    expect(await readRecord(queues.redis, begun.id)).toMatchObject({ cancel: null });
    free.abort();
    await until(() => [given, again].every(({ id }) => claims.get(id) === 'cancel'), 'the worker to be told so');
  });
});

describe('lists', () => {
  it('page through the newest first, and filter', async () => {
    const specs = Array.from({ length: 25 }, (_, n) =>
      specOf({ job: n % 2 === 0 ? 'even' : 'odd', createdAt: new Date(1_700_000_000_000 + n * 1000).toISOString() }),
    );
    for (const spec of specs) await submitRun(queues, spec);
    const newest = specs.map((spec) => spec.id).reverse();
    const first = await listRuns(queues, { limit: 10 });
    expect(first.runs.map((run) => run.id)).toEqual(newest.slice(0, 10));
    const second = await listRuns(queues, { limit: 10, cursor: first.next ?? '' });
    const third = await listRuns(queues, { limit: 10, cursor: second.next ?? '' });
    expect([...second.runs, ...third.runs].map((run) => run.id)).toEqual(newest.slice(10));
    expect(third.next).toBeNull();
    expect((await listRuns(queues, { limit: 100, job: 'even' })).runs).toHaveLength(13);
  });

  it('come in the order of their acceptance, though clocks of servers differ and that of Redis went back', async () => {
    const inHours = (hours: number) => ({ createdAt: new Date(Date.now() + hours * 3_600_000).toISOString() });
    const specs = [specOf(inHours(24)), specOf(), specOf(inHours(-24))];
    for (const spec of specs) {
      await submitRun(queues, spec);
      await queues.redis.zincrby(keys.runs, 3_600_000, spec.id);
    }
    const newestFirst = specs.map(({ id }) => id).reverse();
    expect((await listRuns(queues, { limit: 10 })).runs.map(({ id }) => id)).toEqual(newestFirst);
  });

  it('find a run by an unambiguous prefix of at least 8 characters', async () => {
    const spec = specOf({ id: 'aaaaaaaa-0000-4000-8000-000000000001' });
    await submitRun(queues, spec);
    expect(await resolveRunId(queues, 'aaaaaaaa')).toBe(spec.id);
    await submitRun(queues, specOf({ id: 'aaaaaaaa-0000-4000-8000-000000000002' }));
    await expect(resolveRunId(queues, 'aaaaaaaa')).rejects.toMatchObject({ code: 'ambiguous-id' });
    await expect(resolveRunId(queues, 'bbbbbbbb')).rejects.toMatchObject({ code: 'not-found' });
    await expect(resolveRunId(queues, 'aaaa')).rejects.toThrow('at least 8 characters');
  });
});
