/** Many runs at once, what is kept of each in Redis, and pages of them. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { EMPTY_LOG, InputFile } from '../../src/job/artifact.ts';
import { newRunId } from '../../src/job/names.ts';
import type { Outcome } from '../../src/job/outcome.ts';
import type { RunSpec } from '../../src/job/run.ts';
import { dropPlatform } from '../../src/queue/platforms.ts';
import { openQueues, platformQueue, type Queues } from '../../src/queue/queues.ts';
import { commitResult, createRecord, readRecord } from '../../src/queue/records.ts';
import { listRuns, type RunFilter } from '../../src/queue/run-list.ts';
import { submitRun, submitRuns } from '../../src/queue/submit.ts';
import { bullJobKey, keys, runQueue } from '../../src/redis/keys.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { specOf } from '../support/specs.ts';

let redis: TestRedis;
let queues: Queues;

beforeAll(async () => {
  redis = await startRedis();
  queues = openQueues({ redisUrl: redis.url, logger: createLogger('test', 'silent'), sealLog: async () => EMPTY_LOG });
});

afterEach(async () => {
  await queues.redis.flushall();
});

afterAll(async () => {
  await queues.close();
  await redis.stop();
});

const bullKey = (name: string): string => bullJobKey(runQueue('test'), name);

async function end(spec: RunSpec, outcome: Outcome): Promise<void> {
  const result = {
    outcome,
    exitCode: 1,
    signal: null,
    reason: null,
    attempt: 0,
    claim: null,
    attemptsMade: 0,
    log: EMPTY_LOG,
    artifactCount: 0,
  };
  const finishedAt = new Date().toISOString();
  await commitResult(queues.redis, { spec, token: '', attempt: 0, claim: null, result: { ...result, finishedAt }, end: null });
}

describe('while runs are added all the time', () => {
  it('pages show each of the runs of before once', async () => {
    const before = Array.from({ length: 600 }, () => specOf());
    await submitRuns(queues, before);
    let paging = true;
    const adding = (async () => {
      while (paging) await submitRun(queues, specOf());
    })();
    const seen: string[] = [];
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await listRuns(queues, { limit: 20, cursor });
      seen.push(...page.runs.map(({ id }) => id));
      cursor = page.next;
    }
    paging = false;
    await adding;
    expect(seen).toHaveLength(new Set(seen).size);
    expect(seen.filter((id) => before.some((spec) => spec.id === id))).toEqual(before.map(({ id }) => id).toReversed());
  });
});

describe('a platform that is dropped', () => {
  it('takes a run along that was recorded just before, and is not queued yet', async () => {
    const spec = specOf();
    await createRecord(queues.redis, spec);
    await dropPlatform(queues, 'test');
    expect((await readRecord(queues.redis, spec.id))?.result).toMatchObject({
      outcome: 'cancelled',
      reason: expect.stringContaining('platform-dropped'),
    });
  });
});

describe('many runs at once', () => {
  it('are accepted each, in their order, on every platform, and by one of all that submit them', async () => {
    const specs = Array.from({ length: 1_300 }, (_, n) => specOf({ platform: n % 100 === 99 ? 'other' : 'test' }));
    const accepted = await Promise.all([submitRuns(queues, specs), submitRuns(queues, specs)]);
    expect(accepted[0].size + accepted[1].size).toBe(specs.length);
    expect(new Set([...accepted[0], ...accepted[1]])).toEqual(new Set(specs.map(({ id }) => id)));
    const ofTest = specs.filter(({ platform }) => platform === 'test').map(({ id }) => id);
    for (const key of [bullKey('prioritized'), keys.runsOfPlatform('test')]) expect(await queues.redis.zcard(key)).toBe(ofTest.length);
    expect(await platformQueue(queues, 'other').getJobCountByTypes('prioritized')).toBe(13);
    expect(await queues.redis.zcard(keys.accepting)).toBe(0);
  });

  it('wait in the order in which they were given, and listing tells the newest first', async () => {
    const specs = Array.from({ length: 600 }, () => specOf());
    const ids = specs.map(({ id }) => id);
    await submitRuns(queues, specs);
    expect(await queues.redis.zrange(bullKey('prioritized'), '0', '-1')).toEqual(ids);
    expect((await listRuns(queues, { limit: 600 })).runs.map(({ id }) => id)).toEqual(ids.toReversed());
  });

  it('that a crash left without their BullMQ jobs get them when they are submitted again, and those that are gone from there do not', async () => {
    const [half, whole] = [specOf(), specOf()];
    await createRecord(queues.redis, half);
    await submitRun(queues, whole);
    await platformQueue(queues, 'test').remove(whole.id);
    expect(await submitRuns(queues, [half, whole])).toEqual(new Set());
    expect(await queues.redis.zrange(bullKey('prioritized'), '0', '-1')).toEqual([half.id]);
  });
});

describe("BullMQ's job of a run", () => {
  it.each([{ paused: false }, { paused: true }])('is what BullMQ itself adds, paused: $paused', async ({ paused }) => {
    const queue = platformQueue(queues, 'test');
    if (paused) await queue.pause();
    const [ours, theirs] = [specOf({ priority: 'high' }), newRunId()];
    await submitRun(queues, ours);
    const marker = await queues.redis.zrange(bullKey('marker'), '0', '-1', 'WITHSCORES');
    await queues.redis.del(bullKey('marker'));
    await queue.add('ad-hoc', { trigger: 'run' }, { jobId: theirs, priority: 2 });
    expect(marker).toEqual(await queues.redis.zrange(bullKey('marker'), '0', '-1', 'WITHSCORES'));
    const [own, added] = [await queues.redis.hgetall(bullKey(ours.id)), await queues.redis.hgetall(bullKey(theirs))];
    // What they may differ in: when they were made, and options that say what is so without them.
    for (const fields of [own, added]) {
      expect(Number(fields.timestamp)).toBeGreaterThan(0);
      delete fields.timestamp;
      const { priority } = JSON.parse(fields.opts ?? '');
      fields.opts = priority;
    }
    expect(own).toEqual(added);
    const scores = await queues.redis.zmscore(bullKey('prioritized'), ours.id, theirs);
    expect(Number(scores[1]) - Number(scores[0])).toBe(1);
    expect(await queues.redis.call('OBJECT', 'ENCODING', bullKey(ours.id))).toMatch(/listpack|ziplist/);
  });
});

describe('the record of a run', () => {
  const ALL: Partial<RunSpec> = {
    job: 'nightly',
    inputs: [InputFile.parse({ path: 'a', sha256: '1'.repeat(64) })],
    env: { A: 'b' },
    secrets: ['TOKEN'],
    artifacts: ['*.o'],
    timeoutMs: 1,
    graceMs: 0,
    retries: 3,
    retryOn: ['failed'],
    backoffMs: 5,
    backoffMaxMs: 6,
    priority: 'low',
    labels: { a: 'b' },
    silenceMs: 7,
    memoryBytes: 1 << 30,
    cpus: 0.5,
    pids: 8,
    diskBytes: 1 << 20,
    network: 'none',
    strictLimits: true,
    trigger: 'execute',
  };

  const UNUSUAL: Partial<RunSpec>[] = [
    { createdAt: '2026-11-25T23:00:00Z' },
    { labels: { a: 'é'.repeat(40) } },
    { env: { A: 'b'.repeat(90) } },
    { env: { A: 'b'.repeat(5_000) } },
  ];

  it.each([{}, { job: 'nightly' }, ...UNUSUAL, ALL])(
    'gives back what was written, of %j, while it waits and once it has ended',
    async (given) => {
      const spec = specOf(given);
      await createRecord(queues.redis, spec);
      expect((await readRecord(queues.redis, spec.id))?.spec).toEqual(spec);
      await end(spec, 'cancelled');
      expect((await readRecord(queues.redis, spec.id))?.spec).toEqual(spec);
    },
  );

  it('is packed by Redis while the run waits, and its spec is one field afterwards', async () => {
    const spec = specOf({ job: 'nightly' });
    await createRecord(queues.redis, spec);
    expect(await queues.redis.call('OBJECT', 'ENCODING', keys.run(spec.id))).toMatch(/listpack|ziplist/);
    await end(spec, 'cancelled');
    expect((await queues.redis.hkeys(keys.run(spec.id))).sort()).toEqual(['result', 'spec']);
  });

  it('with everything in it, by name, as builder once wrote it, is read as well', async () => {
    const spec = specOf(ALL);
    await queues.redis.hset(keys.run(spec.id), 'spec', JSON.stringify(spec));
    expect((await readRecord(queues.redis, spec.id))?.spec).toEqual(spec);
  });
});

describe('a page of runs', () => {
  const allOf = async (filter: RunFilter, limit: number): Promise<string[]> => {
    const found: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const { runs, next } = await listRuns(queues, { ...filter, limit, cursor });
      found.push(...runs.map(({ id }) => id));
      if (next === null) return found;
      cursor = next;
    }
  };

  it('by several filters has all that match, the newest first, however they lie among the others', async () => {
    const specs = Array.from({ length: 240 }, (_, n) =>
      specOf({ job: n % 3 === 0 ? 'third' : null, platform: n < 120 ? 'test' : n % 2 === 0 ? 'even' : 'odd' }),
    );
    for (const spec of specs) await submitRun(queues, spec);
    const outcomeOf = (n: number): Outcome | null => (n % 4 === 0 ? 'failed' : n % 5 === 0 ? 'cancelled' : null);
    for (const [n, spec] of specs.entries()) {
      const outcome = outcomeOf(n);
      if (outcome !== null) await end(spec, outcome);
    }
    // Two of the same moment, as a Redis that came back empty has them.
    const score = await queues.redis.zscore(keys.runs, specs[3]?.id ?? '');
    for (const key of [keys.runs, keys.runsOfJob('third'), keys.runsOfPlatform('test')])
      await queues.redis.zadd(key, score ?? 0, specs[6]?.id ?? '');
    const filters: RunFilter[] = [
      { job: 'third', platform: 'test' },
      { job: 'third', platform: 'odd' },
      { job: 'third', outcome: 'failed' },
      { platform: 'odd', outcome: 'failed' },
      { platform: 'even', outcome: 'cancelled', job: 'third' },
      { job: 'none', platform: 'test' },
    ];
    for (const filter of filters) {
      const wanted = specs.filter(
        ({ job, platform }, n) =>
          (filter.job === undefined || job === filter.job) &&
          (filter.platform === undefined || platform === filter.platform) &&
          (filter.outcome === undefined || outcomeOf(n) === filter.outcome),
      );
      for (const limit of [1, 7, 1_000]) {
        const found = await allOf(filter, limit);
        expect(found).toHaveLength(wanted.length);
        expect(new Set(found)).toEqual(new Set(wanted.map(({ id }) => id)));
      }
    }
    const ofThird = (await allOf({ job: 'third', outcome: 'failed' }, 5)).map((id) => specs.findIndex((spec) => spec.id === id));
    expect(ofThird).toEqual(ofThird.toSorted((a, b) => b - a));
  });
});
