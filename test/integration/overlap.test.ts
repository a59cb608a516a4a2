import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { EMPTY_LOG } from '../../src/job/artifact.ts';
import type { JobDefinition } from '../../src/job/definition.ts';
import { tickRunId } from '../../src/job/derived-ids.ts';
import { newRunId } from '../../src/job/names.ts';
import { requestCancel, retryRun, takePlace } from '../../src/queue/cancel.ts';
import { putJob } from '../../src/queue/definitions.ts';
import { openQueues, type Queues, tickQueue } from '../../src/queue/queues.ts';
import { createRecord, readRecord, restoreRun } from '../../src/queue/records.ts';
import { listRuns } from '../../src/queue/run-list.ts';
import { startServerDuties } from '../../src/queue/server-duties.ts';
import { submitRun } from '../../src/queue/submit.ts';
import { putTemplate } from '../../src/queue/templates.ts';
import { ticksOfJob } from '../../src/queue/tick-counts.ts';
import { addExtraTick } from '../../src/queue/tick-jobs.ts';

import { keys } from '../../src/redis/keys.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { definitionOf, specOf } from '../support/specs.ts';
import { until } from '../support/until.ts';

const logger = createLogger('test', 'silent');
const servers: (() => Promise<void>)[] = [];
let redis: TestRedis;
let queues: Queues;

const open = () => openQueues({ redisUrl: redis.url, logger, sealLog: async () => EMPTY_LOG });

beforeAll(async () => {
  redis = await startRedis();
  queues = open();
});

afterEach(async () => {
  await stopServers();
  await queues.redis.flushall();
});

afterAll(async () => {
  await queues.close();
  await redis.stop();
});

function startServer(): void {
  const server = open();
  const duties = startServerDuties({ queues: server, storeScript: async (text) => ({ sha256: '0'.repeat(64), bytes: text.length }) });
  servers.push(async () => {
    await duties.close();
    await server.close();
  });
}

async function stopServers(): Promise<void> {
  await Promise.all(servers.splice(0).map((stop) => stop()));
}

const everySecond = (name: string, given: Partial<JobDefinition> = {}) =>
  definitionOf(name, { kind: 'every', everyMs: 1_000, anchorMs: Date.now() }, given);
const put = (definition: JobDefinition) => putJob(queues, definition, { onlyNew: true });
const runsOf = async (job: string) => (await listRuns(queues, { job, limit: 500 })).runs;
const countsOf = async (job: string) => (await ticksOfJob(queues.redis, job)).counts;

describe('a tick that meets an open run of its job', () => {
  it('makes no run under overlap skip until that has ended, and is counted', async () => {
    startServer();
    await put(everySecond('skip', { overlap: 'skip' }));
    await until(async () => (await countsOf('skip')).skipped >= 2, 'two ticks to be skipped');
    const [first, ...more] = await runsOf('skip');
    expect(more).toEqual([]);
    expect((await ticksOfJob(queues.redis, 'skip')).last).toMatchObject({ code: 'overlap', detail: 'a run is open on test' });
    await requestCancel(queues, first?.id ?? '', null);
    await until(async () => (await runsOf('skip')).length === 2, 'the next run');
  });

  it('is skipped on the platform of that run alone', async () => {
    await putTemplate(queues, { name: 'both', scripts: { a: 'true', b: 'true' } });
    await put(definitionOf('both', { kind: 'never' }, { overlap: 'skip', source: { kind: 'template', template: 'both', params: {} } }));
    await submitRun(queues, specOf({ job: 'both', platform: 'a' }));
    await addExtraTick(tickQueue(queues), 'both', Date.now());
    startServer();
    await until(async () => (await countsOf('both')).skipped === 1, 'the tick to be counted');
    const byTick = (await runsOf('both')).filter(({ trigger }) => trigger === 'schedule');
    expect(byTick.map(({ platform }) => platform)).toEqual(['b']);
  });

  it('takes its place under overlap cancel, and says so', async () => {
    startServer();
    await put(everySecond('cancel', { overlap: 'cancel' }));
    await until(async () => (await runsOf('cancel')).length >= 3, 'three runs');
    await stopServers();
    const [newest, ...former] = await runsOf('cancel');
    expect(newest).toMatchObject({ state: 'waiting' });
    for (const run of former)
      expect(run).toMatchObject({
        outcome: 'cancelled',
        reason: expect.stringMatching(/^cancelled: overlap: the tick of \d{4}-.*Z takes its place$/),
      });
    expect(await queues.redis.zrange(keys.openRunsOfJob('test', 'cancel'), '0', '-1')).toEqual([newest?.id]);
  });

  it('and is taken again when a newer one has its place cancels nothing', async () => {
    const definition = definitionOf('again', { kind: 'never' }, { overlap: 'cancel' });
    await put(definition);
    const [older, newer] = [4_000, 2_000].map((agoMs) => {
      const tickMs = Date.now() - agoMs;
      return { tickMs, spec: specOf({ id: tickRunId(definition.id, 'test', tickMs), job: 'again' }) };
    });
    if (older === undefined || newer === undefined) throw new Error('no ticks');
    for (const { spec } of [older, newer]) {
      await takePlace(queues, spec, 'a newer tick');
      await submitRun(queues, spec);
    }
    await addExtraTick(tickQueue(queues), 'again', older.tickMs);
    startServer();
    await until(async () => (await ticksOfJob(queues.redis, 'again')).last?.code === 'run', 'the tick to be taken again');
    expect((await readRecord(queues.redis, older.spec.id))?.result).toMatchObject({
      outcome: 'cancelled',
      reason: 'cancelled: a newer tick',
    });
    expect(await readRecord(queues.redis, newer.spec.id)).toMatchObject({ result: null, cancel: null });
  });

  it('at the same moment as another leaves one of the two, and what a server that died had not cancelled is', async () => {
    const specs = [1, 2, 3].map(() => specOf({ id: newRunId(), job: 'both' }));
    const [first] = specs;
    for (const spec of specs) await createRecord(queues.redis, spec);
    await Promise.all(specs.slice(1).map((spec) => takePlace(queues, spec, 'another tick')));
    expect(await queues.redis.zrange(keys.openRunsOfJob('test', 'both'), '0', '-1')).toEqual([specs[2]?.id]);
    expect((await readRecord(queues.redis, first?.id ?? ''))?.result).toMatchObject({ outcome: 'cancelled' });
  });

  it('waits behind it otherwise', async () => {
    startServer();
    await put(everySecond('queue'));
    await until(async () => (await runsOf('queue')).length >= 2, 'two runs');
    expect((await runsOf('queue')).every(({ state }) => state === 'waiting')).toBe(true);
    expect(await countsOf('queue')).toMatchObject({ missed: 0, skipped: 0, fused: 0 });
  });
});

describe('the open runs of a job', () => {
  it('are known without looking at the ended ones: through the end, a deliberate retry and the loss of Redis', async () => {
    const open = () => queues.redis.zrange(keys.openRunsOfJob('test', 'indexed'), '0', '-1');
    const spec = specOf({ id: newRunId(), job: 'indexed' });
    await submitRun(queues, spec);
    expect(await open()).toEqual([spec.id]);
    await requestCancel(queues, spec.id, null);
    expect(await open()).toEqual([]);
    await retryRun(queues, spec.id);
    expect(await open()).toEqual([spec.id]);
    const record = await readRecord(queues.redis, spec.id);
    if (record === null) throw new Error('no record');
    const start = { number: 1, claim: 'c', worker: 'w', startedAt: new Date().toISOString() };
    const attempt = { ...start, finishedAt: null, outcome: null, exitCode: null, signal: null, killed: [] };
    await queues.redis.flushall();
    await restoreRun(queues.redis, { ...record, attempts: [attempt] }, { token: 't', name: 'indexed', data: {}, opts: {} });
    expect(await open()).toEqual([spec.id]);
  });
});
