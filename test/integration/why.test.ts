import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Worker } from 'bullmq';
import { requestCancel } from '../../src/queue/cancel.ts';
import { rescheduleJob } from '../../src/queue/definitions.ts';
import { pausePlatform, resumePlatform } from '../../src/queue/operations.ts';
import { platformQueue } from '../../src/queue/queues.ts';
import { delayRun } from '../../src/queue/retries.ts';
import { beat, forgetWorker } from '../../src/queue/workers.ts';
import { connect } from '../../src/redis/connection.ts';
import { BULL_PREFIX, bullLockKey, keys, runQueue } from '../../src/redis/keys.ts';
import { type Asking, ask } from '../support/http.ts';
import { beginAttempt, startServer, type TestServer } from '../support/server.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});

afterEach(() => forgetWorker(server.queues.redis, 'w1'));

afterAll(() => server.stop());

const api = (path: string, o: Asking = {}) => ask(server, `/api/v1${path}`, o);
const submit = async (platform: string, given: object = {}): Promise<string> =>
  (await api('/runs', { method: 'POST', body: { platform, script: 'true', ...given } })).json.id;
const why = async (path: string) => (await api(`${path}/why`)).json;
const startWorker = (platform: string, running = 0) =>
  beat(server.queues.redis, { name: 'w1', platforms: [platform], concurrency: 1, running, version: '1', sandbox: 'none' }, [], false);

/** As BullMQ hands the first waiting run to a worker. */
async function take(platform: string, id: string): Promise<void> {
  const connection = connect(server.redis.url, 'patient');
  const worker = new Worker(runQueue(platform), null, { connection, prefix: BULL_PREFIX, autorun: false });
  expect((await worker.getNextJob(randomUUID()))?.id).toBe(id);
  await worker.close();
  connection.disconnect();
}

describe('why a run waits', () => {
  it('for a platform that nobody takes names those like it', async () => {
    await startWorker('debian-12');
    const id = await submit('debian-21');
    expect(await why(`/runs/${id.slice(0, 8)}`)).toMatchObject({
      ...{ run: id, state: 'waiting', code: 'no-worker', nearestServed: 'debian-12', position: 1, workers: 0 },
      message: 'no worker takes debian-21 now; did you mean debian-12?',
    });
  });

  it('behind others says how many, and which come first', async () => {
    await startWorker('queued', 1);
    const low = await submit('queued', { priority: 'low' });
    const [first, second] = [await submit('queued'), await submit('queued', { priority: 'high' })];
    expect(await why(`/runs/${low}`)).toMatchObject({
      ...{ code: 'slots-busy', position: 3, slots: 1, busy: 1 },
      ahead: [
        { run: second, job: null },
        { run: first, job: null },
      ],
    });
    await startWorker('queued', 0);
    expect(await why(`/runs/${second}`)).toMatchObject({ code: 'about-to-be-taken', position: 1 });
  });

  it('on a paused platform', async () => {
    await startWorker('paused');
    const id = await submit('paused');
    await pausePlatform(server.queues, 'paused');
    expect(await why(`/runs/${id}`)).toMatchObject({ code: 'platform-paused' });
    await resumePlatform(server.queues, 'paused');
    expect(await why(`/runs/${id}`)).toMatchObject({ code: 'about-to-be-taken' });
  });

  it('for its next try says until when', async () => {
    const id = await submit('delayed');
    const queue = platformQueue(server.queues, 'delayed');
    await queue.remove(id);
    await queue.add('ad-hoc', {}, { jobId: id, delay: 3_600_000 });
    await delayRun(server.queues.redis, id, 60_000);
    const untilMs = Date.now() + 60_000;
    const answer = await why(`/runs/${id}`);
    expect(answer).toMatchObject({ code: 'delayed', state: 'delayed' });
    expect(Math.abs(Date.parse(answer.until) - untilMs)).toBeLessThan(30_000);
  });

  it('half accepted is being queued', async () => {
    await startWorker('half');
    const id = await submit('half');
    await platformQueue(server.queues, 'half').remove(id);
    expect(await why(`/runs/${id}`)).toMatchObject({ code: 'being-queued' });
  });
});

describe('why a run that was taken', () => {
  it('runs, has a silent worker, is being cancelled, has ended', async () => {
    const id = await submit('taken');
    await take('taken', id);
    const attempt = await beginAttempt(server, id);
    expect(await why(`/runs/${id}`)).toMatchObject({ code: 'running', worker: 'w', state: 'running' });
    const lock = bullLockKey(runQueue('taken'), id);
    const token = (await server.queues.redis.getdel(lock)) ?? '';
    expect(await why(`/runs/${id}`)).toMatchObject({ code: 'worker-silent', worker: 'w' });
    await server.queues.redis.set(lock, token);
    await requestCancel(server.queues, id, 'wrong branch');
    expect(await why(`/runs/${id}`)).toMatchObject({ code: 'cancelling', reason: 'wrong branch', worker: 'w' });
    await attempt.end({ outcome: 'cancelled', exitCode: null, reason: 'cancelled: wrong branch' });
    expect(await why(`/runs/${id}`)).toMatchObject({
      ...{ code: 'finished', outcome: 'cancelled', reason: 'cancelled: wrong branch', state: 'finished' },
      message: 'it has ended: cancelled: wrong branch',
    });
  });

  it('is not known', async () => {
    expect(await api(`/runs/${randomUUID()}/why`)).toMatchObject({ status: 404, json: { code: 'not-found' } });
    expect(await api('/jobs/nobody/why')).toMatchObject({ status: 404, json: { code: 'not-found' } });
  });
});

describe('why a job', () => {
  const put = (name: string, body: object) => api(`/jobs/${name}`, { method: 'PUT', body: { script: 'true', ...body } });

  it('has not run: never due, then due, then without a worker, then with a run that waits', async () => {
    await startWorker('served');
    await put('job', { platform: 'served', period: 'never' });
    expect(await why('/jobs/job')).toMatchObject({ code: 'never-due', openRuns: 0, next: null });
    const next = Date.now() + 3_600_000;
    await rescheduleJob(server.queues, 'job', next);
    expect(await why('/jobs/job')).toMatchObject({ code: 'due', next: new Date(next).toISOString() });
    await put('job', { platform: 'serfed', period: 'daily' });
    expect(await why('/jobs/job')).toMatchObject({
      code: 'no-worker',
      unserved: [{ platform: 'serfed', nearestServed: 'served', nearestKnown: null }],
    });
    const runs = (await api('/jobs/job/execute', { method: 'POST', body: {} })).json.runs;
    expect(await why('/jobs/job')).toMatchObject({ code: 'runs-wait', openRuns: 1, openRun: { run: runs[0].id, code: 'no-worker' } });
  });

  it('made no run at its last tick', async () => {
    await startWorker('served');
    await put('missed', { platform: 'served', period: 'daily', misfire: 'skip' });
    const last = { at: new Date().toISOString(), code: 'misfire', detail: null };
    await server.queues.redis.hset(keys.ticks('missed'), { last: JSON.stringify(last), missed: 2, missedMs: Date.now() });
    expect(await why('/jobs/missed')).toMatchObject({ code: 'tick-made-no-run', lastTick: last, ticks: { missed: 2, skipped: 0 } });
    expect((await api('/jobs/missed')).json).toMatchObject({ misfire: 'skip', overlap: 'queue', ticks: { missed: 2 } });
  });
});
