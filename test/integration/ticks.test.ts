import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { EMPTY_LOG } from '../../src/job/artifact.ts';
import { tickRunId } from '../../src/job/derived-ids.ts';
import { cronSchedule, periodFrom } from '../../src/job/schedule.ts';
import { getJob, nextTickOf, putJob, removeJob, rescheduleJob } from '../../src/queue/definitions.ts';
import { patternOf } from '../../src/queue/pattern.ts';
import { openQueues, type Queues, tickQueue } from '../../src/queue/queues.ts';
import { listRuns } from '../../src/queue/run-list.ts';
import { startServerDuties } from '../../src/queue/server-duties.ts';
import { ticksOfJob } from '../../src/queue/tick-counts.ts';
import { completeTicks } from '../../src/queue/ticks.ts';

import { keys } from '../../src/redis/keys.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { definitionOf } from '../support/specs.ts';
import { until } from '../support/until.ts';

const logger = createLogger('test', 'silent');
const storeScript = async (text: string) => ({ sha256: '0'.repeat(64), bytes: text.length });
const releases: (() => Promise<void>)[] = [];
let redis: TestRedis;
let queues: Queues;

beforeAll(async () => {
  redis = await startRedis();
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

function startServer(): void {
  const server = openQueues({ redisUrl: redis.url, logger, sealLog: async () => EMPTY_LOG });
  const duties = startServerDuties({ queues: server, storeScript });
  releases.push(async () => {
    await duties.close();
    await server.close();
  });
}

const runsOf = async (job: string) => (await listRuns(queues, { job, limit: 100 })).runs;

describe('a schedule', () => {
  it('submits one run per tick, however many servers there are', async () => {
    for (let n = 0; n < 3; n += 1) startServer();
    const anchorMs = Date.now();
    const definition = definitionOf('every-second', { kind: 'every', everyMs: 1_000, anchorMs });
    await putJob(queues, definition, { onlyNew: true });
    await until(async () => (await runsOf('every-second')).length >= 4, 'four ticks');
    await removeJob(queues, 'every-second');
    const runs = await runsOf('every-second');
    const ofTicks = Array.from({ length: 60 }, (_, second) => tickRunId(definition.id, 'test', anchorMs + second * 1_000));
    expect(runs.filter(({ id }) => !ofTicks.includes(id))).toEqual([]);
    expect(runs.every((run) => run.trigger === 'schedule' && run.state === 'waiting')).toBe(true);
  });

  it('of a period starts no run by itself when it is made, nor when it is moved', async () => {
    startServer();
    const now = Date.now();
    await putJob(queues, definitionOf('daily', periodFrom('daily', now)), { onlyNew: true });
    await rescheduleJob(queues, 'daily', now + 3_600_000);
    const delayed = await tickQueue(queues).getDelayed();
    expect(delayed.map((job) => job.id)).toEqual([`repeat:daily:${now + 3_600_000}`]);
    expect(await runsOf('daily')).toEqual([]);
  });

  it('keeps its own period after it was moved, counted from the new moment', async () => {
    const now = Date.now();
    await putJob(queues, definitionOf('weekly', periodFrom('weekly', now)), { onlyNew: true });
    const moved = await rescheduleJob(queues, 'weekly', now + 5_000, 'hourly');
    expect(nextTickOf(moved, now + 5_000)).toBe(now + 5_000 + 3_600_000);
    expect(await getJob(queues, 'weekly')).toEqual(moved);
  });

  it('of cron gets one extra tick when it is rescheduled, and goes on', async () => {
    startServer();
    await putJob(queues, definitionOf('cron', cronSchedule('0 0 1 1 *', 'UTC')), { onlyNew: true });
    await rescheduleJob(queues, 'cron', Date.now() + 300);
    await until(async () => (await runsOf('cron')).length === 1, 'the extra tick');
    expect((await tickQueue(queues).getJobScheduler('cron'))?.next).toBeGreaterThan(Date.now());
  });

  it('with a single moment runs once', async () => {
    startServer();
    await putJob(queues, definitionOf('once', { kind: 'at', atMs: Date.now() + 300 }), { onlyNew: true });
    const [run] = await until(async () => ((await runsOf('once')).length === 1 ? runsOf('once') : null), 'the tick');
    expect(run).toMatchObject({ job: 'once', trigger: 'schedule' });
    expect(nextTickOf((await getJob(queues, 'once')) ?? definitionOf('x', { kind: 'never' }), Date.now())).toBeNull();
  });

  it('refuses a moment that is past', async () => {
    await putJob(queues, definitionOf('daily', periodFrom('daily', Date.now())), { onlyNew: true });
    await expect(rescheduleJob(queues, 'daily', Date.now() - 60_000)).rejects.toMatchObject({ code: 'invalid-value' });
  });

  it('refuses a used name, and then changes nothing', async () => {
    const first = definitionOf('daily', periodFrom('daily', Date.now()));
    await putJob(queues, first, { onlyNew: true });
    await expect(putJob(queues, definitionOf('daily', { kind: 'never' }), { onlyNew: true })).rejects.toMatchObject({
      code: 'name-in-use',
    });
    expect(await getJob(queues, 'daily')).toEqual(first);
    expect(await tickQueue(queues).getJobSchedulersCount()).toBe(1);
  });

  it('put from many places at once keeps one next tick and the newest data', async () => {
    const now = Date.now();
    const puts = Array.from({ length: 20 }, (_, n) => definitionOf('same', { kind: 'every', everyMs: 60_000 + n, anchorMs: now + 60_000 }));
    await Promise.all(puts.map((definition) => putJob(queues, definition, { onlyNew: false })));
    const last = definitionOf('same', { kind: 'every', everyMs: 90_000, anchorMs: now + 90_000 });
    await putJob(queues, last, { onlyNew: false });
    expect((await tickQueue(queues).getDelayed()).map((job) => job.id)).toEqual([`repeat:same:${now + 90_000}`]);
    expect(await getJob(queues, 'same')).toEqual(last);
  });

  it('that a crash left without its tick gets it from a server, but not while somebody may be at it', async () => {
    const definition = definitionOf('half', periodFrom('daily', Date.now()));
    await queues.redis.hset(keys.jobs, 'half', JSON.stringify(definition));
    const missing = new Map<string, string>();
    await completeTicks(queues, missing);
    expect(await tickQueue(queues).getDelayedCount()).toBe(0);
    await completeTicks(queues, missing);
    expect((await tickQueue(queues).getDelayed()).map((job) => job.id)).toEqual([`repeat:half:${nextTickOf(definition, Date.now())}`]);
    await completeTicks(queues, missing);
    expect(missing.size).toBe(0);
  });

  it('with a single moment that a crash left without its tick gets it late, once, under its misfire rule', async () => {
    const atMs = Date.now() - 60_000;
    const missing = new Map<string, string>();
    const complete = async () => {
      for (let n = 0; n < 2; n += 1) await completeTicks(queues, missing);
    };
    const ticks = () => tickQueue(queues).getJobCountByTypes('active', 'wait', 'delayed', 'prioritized', 'completed');
    for (const misfire of ['once', 'skip'] as const) {
      const definition = definitionOf(misfire, { kind: 'at', atMs }, { misfire });
      await queues.redis.hset(keys.jobs, misfire, JSON.stringify(definition));
    }
    await complete();
    expect(await ticks()).toBe(2);
    startServer();
    const lastOf = async (job: string) => (await ticksOfJob(queues.redis, job)).last;
    for (const job of ['once', 'skip']) await until(async () => (await lastOf(job)) !== null, `the tick of ${job}`);
    expect([(await lastOf('once'))?.code, (await lastOf('skip'))?.code]).toEqual(['run', 'misfire']);
    expect([(await runsOf('once')).length, (await runsOf('skip')).length]).toEqual([1, 0]);
    await until(async () => (await tickQueue(queues).getCompletedCount()) === 2, 'both ticks to end');
    // BullMQ forgets a tick in the course of time: then its run, or what became of it, tells that it was taken.
    await tickQueue(queues).clean(0, 10, 'completed');
    await queues.redis.hdel(keys.ticks('once'), 'last');
    await complete();
    expect([await ticks(), missing.size]).toEqual([0, 0]);
  });

  it('whose next tick a clock that was ahead has put a day too far gets it back', async () => {
    const anchorMs = Date.now() + 3_600_000;
    await putJob(queues, definitionOf('far', { kind: 'every', everyMs: 3_600_000, anchorMs }), { onlyNew: true });
    const queue = tickQueue(queues);
    const { pattern = '' } = (await queue.getJobScheduler('far')) ?? {};
    const ahead = patternOf({ kind: 'every', everyMs: 3_600_000, anchorMs: anchorMs + 86_400_000 });
    await queue.upsertJobScheduler('far', { pattern: ahead }, { name: 'far', data: { job: 'far' } });
    await queues.redis.hset(queue.toKey('repeat:far'), 'pattern', pattern);
    const next = async (): Promise<number> => Number((await queue.getJobScheduler('far'))?.next);
    const wrong = new Map<string, string>();
    await completeTicks(queues, wrong);
    expect((await next()) - Date.now()).toBeGreaterThan(80_000_000);
    await completeTicks(queues, wrong);
    expect(await next()).toBe(anchorMs);
  });

  it('that is removed leaves no tick', async () => {
    await putJob(queues, definitionOf('gone', { kind: 'at', atMs: Date.now() + 60_000 }), { onlyNew: true });
    await putJob(queues, definitionOf('gone-too', periodFrom('daily', Date.now())), { onlyNew: true });
    expect([await removeJob(queues, 'gone'), await removeJob(queues, 'gone-too'), await removeJob(queues, 'gone')]).toEqual([
      true,
      true,
      false,
    ]);
    expect(await tickQueue(queues).getJobCountByTypes('delayed', 'waiting', 'prioritized')).toBe(0);
  });
});
