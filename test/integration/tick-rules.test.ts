import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { EMPTY_LOG } from '../../src/job/artifact.ts';
import type { JobDefinition } from '../../src/job/definition.ts';
import { tickRunId } from '../../src/job/derived-ids.ts';
import { limits } from '../../src/job/limits.ts';
import { putJob, removeJob } from '../../src/queue/definitions.ts';
import { openQueues, type Queues, tickQueue } from '../../src/queue/queues.ts';
import { listRuns } from '../../src/queue/run-list.ts';
import { startServerDuties } from '../../src/queue/server-duties.ts';
import { admitTick, noteTick, ticksOfJob } from '../../src/queue/tick-counts.ts';
import { addExtraTick, tickOfId } from '../../src/queue/tick-jobs.ts';
import { getInfo } from '../../src/queue/view.ts';
import { keys } from '../../src/redis/keys.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { definitionOf } from '../support/specs.ts';
import { until } from '../support/until.ts';

const silent = createLogger('test', 'silent');
const storeScript = async (text: string) => ({ sha256: '0'.repeat(64), bytes: text.length });
const servers: (() => Promise<void>)[] = [];
let said: { job?: string; text: string }[] = [];
let redis: TestRedis;
let queues: Queues;

beforeAll(async () => {
  redis = await startRedis();
  queues = openQueues({ redisUrl: redis.url, logger: silent, sealLog: async () => EMPTY_LOG });
});

afterEach(async () => {
  await stopServers();
  await queues.redis.flushall();
  said = [];
});

afterAll(async () => {
  await queues.close();
  await redis.stop();
});

function startServer(): void {
  const logger: typeof silent = Object.create(silent);
  logger.warn = logger.error = (about: { job?: string }, text?: string) => void said.push({ ...about, text: text ?? '' });
  const server = openQueues({ redisUrl: redis.url, logger, sealLog: async () => EMPTY_LOG });
  const duties = startServerDuties({ queues: server, storeScript });
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
const pendingOf = async (name: string) => (await tickQueue(queues).getJobScheduler(name))?.next ?? 0;

/** The moments of a schedule up to its pending tick, and whether each has a run. */
async function momentsOf({ id, name, schedule }: JobDefinition): Promise<Map<number, boolean>> {
  const found = new Map<number, boolean>();
  const first = schedule.kind === 'every' ? schedule.anchorMs + 1_000 : 0;
  for (let at = first; at < (await pendingOf(name)); at += 1_000)
    found.set(at, (await queues.redis.exists(keys.run(tickRunId(id, 'test', at)))) === 1);
  return found;
}

describe('ticks that fall due while every server is down', () => {
  it('make one run afterwards, or none under misfire skip; how many were missed is counted, shown and said once', async () => {
    for (let n = 0; n < 2; n += 1) startServer();
    const once = everySecond('once');
    const skip = everySecond('skip', { misfire: 'skip' });
    for (const definition of [once, skip]) await put(definition);
    for (const name of ['once', 'skip']) await until(async () => (await runsOf(name)).length >= 2, `runs of ${name}`);
    await stopServers();
    const [pendingOnce, pendingSkip] = [await pendingOf('once'), await pendingOf('skip')];
    const outageMs = limits.tickLateMs + 2_000;
    await until(() => Date.now() > Math.max(pendingOnce, pendingSkip) + outageMs, 'ticks to be missed', 2 * outageMs);
    for (let n = 0; n < 2; n += 1) startServer();
    for (const [name, pending] of [
      ['once', pendingOnce],
      ['skip', pendingSkip],
    ] as const)
      await until(
        async () => (await runsOf(name)).some((run) => Date.parse(run.createdAt) > pending + outageMs + 3_000),
        `${name} to go on`,
      );
    await stopServers();

    const [ofOnce, ofSkip] = [await momentsOf(once), await momentsOf(skip)];
    const without = (moments: Map<number, boolean>) => [...moments].filter(([, hasRun]) => !hasRun).map(([at]) => at);
    expect([ofOnce.get(pendingOnce), ofSkip.get(pendingSkip)]).toEqual([true, false]);
    expect(without(ofOnce)[0]).toBe(pendingOnce + 1_000);
    expect(without(ofSkip)[0]).toBe(pendingSkip);
    // The late run stands for its own tick too, which was missed like the rest.
    expect(await countsOf('once')).toMatchObject({
      missed: without(ofOnce).length + 1,
      lastMissedAt: new Date(without(ofOnce).at(-1) ?? 0).toISOString(),
      skipped: 0,
      fused: 0,
    });
    expect(await countsOf('skip')).toMatchObject({
      missed: without(ofSkip).length,
      lastMissedAt: new Date(without(ofSkip).at(-1) ?? 0).toISOString(),
    });
    expect(without(ofOnce).length).toBeGreaterThanOrEqual(20);
    expect(said.filter(({ job }) => job === 'once')).toEqual([
      expect.objectContaining({ text: 'ticks were missed; one run stands for them' }),
    ]);
    expect(said.filter(({ job }) => job === 'skip')).toEqual([expect.objectContaining({ text: 'ticks were missed' })]);
    const entry = (await getInfo(queues)).schedule.find(({ job }) => job === 'once');
    expect(entry?.ticks).toEqual(await countsOf('once'));
  }, 120_000);

  it('of a single moment are missed too', async () => {
    const atMs = Date.now() - limits.tickLateMs - 1_000;
    await put(definitionOf('never', { kind: 'never' }, { misfire: 'skip' }));
    await addExtraTick(tickQueue(queues), 'never', atMs);
    startServer();
    await until(async () => (await countsOf('never')).missed === 1, 'the tick to be counted');
    expect(await runsOf('never')).toEqual([]);
    expect((await ticksOfJob(queues.redis, 'never')).last).toEqual({ at: new Date(atMs).toISOString(), code: 'misfire', detail: null });
  });
});

it('a late tick runs under misfire skip where servers have been there since its moment, and were busy', async () => {
  const nowMs = Date.now();
  const late = async (name: string, awake: { at: number; since: number }) => {
    const definition = definitionOf(name, { kind: 'never' }, { misfire: 'skip' });
    await put(definition);
    await queues.redis.hset(keys.watch, awake);
    const tick = tickOfId(`extra:${name}:${nowMs - 60_000}`);
    if (tick === null) throw new Error('no tick');
    return [await admitTick(queues, definition, tick), (await countsOf(name)).missed];
  };
  expect(await late('busy', { at: nowMs, since: nowMs - 3_600_000 })).toEqual(['run', 0]);
  expect(await late('back', { at: nowMs, since: nowMs - 30_000 })).toEqual(['misfire', 1]);
  expect(await late('about-to-look', { at: nowMs - 60_000, since: nowMs - 3_600_000 })).toEqual(['misfire', 1]);
});

it('a tick that is taken again, as from a server that died with it, is neither judged nor counted anew', async () => {
  const definition = definitionOf('again', { kind: 'never' });
  await put(definition);
  const tickMs = Date.now() - limits.tickLateMs - 1_000;
  await addExtraTick(tickQueue(queues), 'again', tickMs);
  const tick = tickOfId(`extra:again:${tickMs}`);
  if (tick === null) throw new Error('no tick');
  expect(await admitTick(queues, definition, tick)).toBe('run');
  expect(await admitTick(queues, { ...definition, misfire: 'skip' }, tick)).toBe('run');
  const last = { at: new Date(tickMs).toISOString(), code: 'overlap', detail: null } as const;
  for (let n = 0; n < 2; n += 1) await noteTick(queues.redis, definition, { tick, last, skipped: true });
  expect(await countsOf('again')).toMatchObject({ missed: 1, skipped: 1 });
  expect(await queues.redis.zcard(keys.launches('again'))).toBe(1);
});

it('a tick that a neighbour took within the same moment is not counted as missed', async () => {
  const definition = everySecond('neighbour');
  await put(definition);
  const next = await pendingOf('neighbour');
  await tickQueue(queues).add('neighbour', { job: 'neighbour' }, { jobId: `repeat:neighbour:${next - 1_000}` });
  const tick = tickOfId(`repeat:neighbour:${next - 30_000}`);
  if (tick === null) throw new Error('no tick');
  await admitTick(queues, { ...definition, schedule: { kind: 'every', everyMs: 1_000, anchorMs: next - 30_000 } }, tick);
  // It is late itself, and 28 are between it and its neighbour.
  expect(await countsOf('neighbour')).toMatchObject({ missed: 29, lastMissedAt: new Date(next - 2_000).toISOString() });
});

describe('the fuse', () => {
  const ticks = async (name: string, count: number) => {
    const nowMs = Date.now();
    for (let n = 0; n < count; n += 1) await addExtraTick(tickQueue(queues), name, nowMs - n);
  };

  it('bounds the launches of one schedule within a minute, whatever asks for them; what it held back is counted and said once', async () => {
    await put(definitionOf('wild', { kind: 'never' }));
    await put(definitionOf('calm', { kind: 'never' }));
    await ticks('wild', limits.launchesPerMinuteMax + 20);
    await ticks('calm', 1);
    startServer();
    const left = () => tickQueue(queues).getJobCountByTypes('active', 'wait', 'delayed', 'prioritized');
    await until(async () => (await left()) === 0, 'every tick to be taken');
    expect([(await runsOf('wild')).length, (await runsOf('calm')).length]).toEqual([limits.launchesPerMinuteMax, 1]);
    expect((await countsOf('wild')).fused).toBe(20);
    expect(await queues.redis.pttl(keys.launches('wild'))).toBeGreaterThan(0);
    const told = said.filter(({ text }) => text.startsWith('too many ticks'));
    expect(told.map(({ job }) => job)).toEqual(['wild']);
  });

  it('does not hold a schedule up when the clock of Redis was set back', async () => {
    await put(definitionOf('later', { kind: 'never' }));
    const hourMs = 3_600_000;
    for (let n = 0; n < limits.launchesPerMinuteMax; n += 1)
      await queues.redis.zadd(keys.launches('later'), Date.now() + hourMs, String(n));
    await ticks('later', 1);
    startServer();
    await until(async () => (await runsOf('later')).length === 1, 'the run');
  });
});

describe('the counts of a job', () => {
  const inherited = { missed: 3, missedMs: Date.now() };

  it('go with it, and are not inherited by another of its name, however that is put', async () => {
    for (const onlyNew of [true, false]) {
      await put(definitionOf('gone', { kind: 'never' }));
      await queues.redis.hset(keys.ticks('gone'), inherited);
      expect((await countsOf('gone')).missed).toBe(3);
      await removeJob(queues, 'gone');
      expect(await queues.redis.exists(keys.ticks('gone'))).toBe(0);
      await queues.redis.hset(keys.ticks('gone'), inherited);
      await putJob(queues, definitionOf('gone', { kind: 'never' }), { onlyNew });
      expect((await countsOf('gone')).missed).toBe(0);
      await removeJob(queues, 'gone');
    }
  });

  it('stay when it is replaced', async () => {
    const definition = definitionOf('same', { kind: 'never' });
    await put(definition);
    await queues.redis.hset(keys.ticks('same'), inherited);
    await putJob(queues, definition, { onlyNew: false });
    expect((await countsOf('same')).missed).toBe(3);
  });

  it('do not come back when it is removed, or another of its name is put, while a tick is under way', async () => {
    const definition = definitionOf('gone', { kind: 'never' });
    const tickMs = Date.now() - limits.tickLateMs - 1_000;
    const tick = tickOfId(`extra:gone:${tickMs}`);
    if (tick === null) throw new Error('no tick');
    const last = { at: new Date(tickMs).toISOString(), code: 'overlap', detail: null } as const;
    const takeUp = async () => {
      const verdict = await admitTick(queues, definition, tick);
      await noteTick(queues.redis, definition, { tick, last, skipped: true });
      return [verdict, await queues.redis.exists(keys.ticks('gone'))];
    };
    await put(definition);
    expect(await takeUp()).toEqual(['run', 1]);
    await removeJob(queues, 'gone');
    expect(await takeUp()).toEqual(['gone', 0]);
    await put(definitionOf('gone', { kind: 'never' }));
    expect(await takeUp()).toEqual(['gone', 0]);
  });
});
