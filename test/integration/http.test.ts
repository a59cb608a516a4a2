import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Scope } from '../../src/job/api.ts';
import { dropPlatform, undropPlatform } from '../../src/queue/platforms.ts';
import { platformQueue } from '../../src/queue/queues.ts';
import { sha256Of } from '../support/contents.ts';
import { type Asking, ask } from '../support/http.ts';
import { startServer, type TestServer } from '../support/server.ts';

let server: TestServer;
const tokens = {} as Record<Scope, string>;

beforeAll(async () => {
  server = await startServer();
  for (const scope of ['read', 'submit', 'admin'] as const) {
    const made = await api('/tokens', { method: 'POST', body: { name: scope, scope } });
    tokens[scope] = made.json.token;
  }
});

afterAll(() => server.stop());

const api = (path: string, o: Asking = {}) => ask(server, `/api/v1${path}`, o);
const put = (path: string, body: object, headers: Record<string, string> = {}) => api(path, { method: 'PUT', body, headers });
const post = (path: string, body: object = {}, headers: Record<string, string> = {}) => api(path, { method: 'POST', body, headers });
const RUN = { platform: 'test', script: 'true' };

async function putJob(name: string, body: object): Promise<{ status: number; detail: string }> {
  const { status, json } = await put(`/jobs/${name}`, body);
  return { status, detail: json.detail };
}

describe('submitting', () => {
  it('under one Idempotency-Key makes the same runs for a hundred parallel producers, alone and in a batch', async () => {
    for (const body of [{ ...RUN, platform: 'idem-1' }, [1, 2, 3].map((n) => ({ platform: 'idem-3', script: `exit ${n}` }))]) {
      const key = { 'idempotency-key': randomUUID() };
      const answers = await Promise.all(Array.from({ length: 100 }, () => post('/runs', body, key)));
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
      const ids = answers.map(({ json }) => (json.runs ?? [json]).map((run: { id: string }) => run.id).join());
      expect(new Set(ids).size).toBe(1);
      const other = await post('/runs', { ...RUN, script: 'false' }, key);
      expect(other).toMatchObject({ status: 422, json: { code: 'invalid-value' } });
      const byAnother = await api('/runs', { method: 'POST', token: tokens.submit, headers: key, body: RUN });
      expect(byAnother.status).toBe(201);
    }
    expect(await platformQueue(server.queues, 'idem-1').getJobCountByTypes('prioritized', 'wait')).toBe(1);
    expect(await platformQueue(server.queues, 'idem-3').getJobCountByTypes('prioritized', 'wait')).toBe(3);
  });

  it('of a job or of a run that is run again under one Idempotency-Key makes its run once, too', async () => {
    expect((await putJob('keyed', { ...RUN, platform: 'idem-5', period: 'never' })).status).toBe(201);
    const [first] = (await post('/jobs/keyed/execute')).json.runs;
    for (const path of ['/jobs/keyed/execute', `/runs/${first.id}/rerun`]) {
      const key = { 'idempotency-key': randomUUID() };
      const answers = await Promise.all(Array.from({ length: 20 }, () => post(path, {}, key)));
      expect(new Set(answers.map(({ status, json }) => `${status} ${(json.runs?.[0] ?? json).id}`)).size).toBe(1);
    }
    expect((await api('/runs?platform=idem-5')).json.runs).toHaveLength(3);
  });

  it('a batch is refused whole: for a dropped platform, an unknown input, a path that leads out', async () => {
    await dropPlatform(server.queues, 'gone');
    const good = { ...RUN, platform: 'whole' };
    const input = (path: string, sha256 = sha256Of(randomBytes(8))) => ({ ...good, inputs: [{ path, sha256 }] });
    expect(await post('/runs', [good, { ...good, platform: 'gone' }])).toMatchObject({ status: 409, json: { code: 'platform-dropped' } });
    expect(await post('/runs', { ...good, platform: 'gone' })).toMatchObject({ status: 409 });
    expect(await post('/runs', [good, input('a')])).toMatchObject({ status: 422, json: { detail: expect.stringContaining('input a ') } });
    for (const path of ['../a', '/etc/a', 'a/../../b', 'script.sh', '']) expect((await post('/runs', input(path))).status).toBe(422);
    expect(await post('/runs', [])).toMatchObject({ status: 422 });
    expect((await api('/runs?platform=whole')).json.runs).toEqual([]);
    await undropPlatform(server.queues, 'gone');
    expect((await post('/runs', { ...good, platform: 'gone' })).status).toBe(201);
  });

  it('what was sent can be listed, cancelled with a reason and run again', async () => {
    const { id } = (await post('/runs', { ...RUN, labels: { team: 'a' } })).json;
    expect((await api(`/runs/${id.slice(0, 8)}`)).json).toMatchObject({ id, state: 'waiting', trigger: 'run', labels: { team: 'a' } });
    const cancelled = await post(`/runs/${id}/cancel`, { reason: 'no need' });
    expect(cancelled.json).toMatchObject({ state: 'finished', outcome: 'cancelled', reason: 'cancelled: no need' });
    expect((await post(`/runs/${id}/cancel`)).status).toBe(409);
    const again = await post(`/runs/${id}/rerun`);
    expect(again).toMatchObject({ status: 201, json: { trigger: 'rerun', platform: 'test', labels: { team: 'a' }, state: 'waiting' } });
    expect(again.json.id).not.toBe(id);
    expect((await api('/runs?limit=1')).json).toMatchObject({ runs: [{ id: again.json.id }], next: again.json.id });
    expect((await api('/runs?outcome=cancelled')).json.runs.map((run: { id: string }) => run.id)).toContain(id);
    for (const query of ['limit=0', 'limit=x', 'outcome=good', 'plattform=x', 'cursor=x'])
      expect((await api(`/runs?${query}`)).status).toBe(422);
  });
});

describe('a job', () => {
  it('is made once, changed without losing its anchor, executed and removed', async () => {
    const job = { platform: 'test', script: 'echo 1', period: 'daily' };
    const made = await put('/jobs/nightly', job, { 'if-none-match': '*' });
    expect(made).toMatchObject({
      status: 201,
      json: { name: 'nightly', script: 'echo 1', platforms: ['test'], period: 'daily', paused: false },
    });
    expect(await put('/jobs/nightly', job, { 'if-none-match': '*' })).toMatchObject({ status: 409, json: { code: 'name-in-use' } });
    const moved = await post('/jobs/nightly/reschedule', { next: '2999-01-01T00:00:00+01:00' });
    expect(moved.json.next).toBe('2998-12-31T23:00:00.000Z');
    const changed = await put('/jobs/nightly', { ...job, script: 'echo 2' });
    expect(changed).toMatchObject({ status: 200, json: { script: 'echo 2', next: moved.json.next, createdAt: made.json.createdAt } });
    expect((await put('/jobs/nightly', { ...job, period: 'weekly' })).json.next).not.toBe(moved.json.next);
    const { runs } = (await post('/jobs/nightly/execute')).json;
    expect(runs).toMatchObject([{ job: 'nightly', trigger: 'execute', state: 'waiting' }]);
    expect(await post('/jobs/nightly/execute', { platform: 'other' })).toMatchObject({ status: 422 });
    expect((await api('/jobs')).json.jobs.map((one: { name: string }) => one.name)).toContain('nightly');
    expect((await api('/jobs/nightly', { method: 'DELETE' })).status).toBe(204);
    for (const [method, path] of [
      ['GET', ''],
      ['DELETE', ''],
      ['POST', '/execute'],
    ]) {
      expect((await api(`/jobs/nightly${path}`, { method: method ?? '' })).status).toBe(404);
    }
    expect((await api(`/runs/${runs[0].id}`)).status).toBe(200);
  });

  it('that makes no sense is refused, and nothing is kept of it', async () => {
    const job = { platform: 'test', script: 'true' };
    const refused: [object, RegExp][] = [
      [{}, /a script and its platform, or a template, got neither/],
      [{ ...job, template: 't' }, /got both/],
      [{ ...job, params: { A: '1' } }, /params with a template alone/],
      [{ ...job, period: 'daily', cron: '* * * * *' }, /one of period, cron, every, at, got period and cron/],
      [{ ...job, tz: 'UTC' }, /tz with cron/],
      [{ ...job, cron: 'nonsense' }, /cron expression/],
      [{ ...job, cron: '0 0 30 2 *' }, /cron expression/],
      [{ ...job, cron: '* * * * *', tz: 'Mars/Base' }, /time zone/],
      [{ ...job, every: '1x' }, /duration such as/],
      [{ ...job, every: '1ms' }, /interval of 1s to/],
      [{ ...job, at: 'tomorrow' }, /RFC 3339/],
      [{ ...job, at: '2020-01-01T00:00:00Z' }, /in the future/],
      [{ ...job, timeoutMs: 0 }, /timeoutMs: expected at least 1, got 0/],
    ];
    for (const [body, words] of refused)
      expect(await putJob('senseless', body)).toEqual({ status: 422, detail: expect.stringMatching(words) });
    expect((await putJob('Bad%20Name', job)).status).toBe(422);
    expect((await api('/jobs/senseless')).status).toBe(404);
    expect((await put('/jobs/past', job)).status).toBe(201);
    expect(await post('/jobs/past/reschedule', { next: '2020-01-01T00:00:00Z' })).toMatchObject({ status: 422 });
  });

  it('of a template has a script per platform, needs its parameters, and leaves out what is dropped', async () => {
    const scripts = { 'orb-a': 'build %%PKG%% on %%PLATFORM%%', 'orb-b': 'build %%PKG%%' };
    expect((await put('/templates/orb', { scripts })).status).toBe(201);
    expect(await putJob('orb-1', { template: 'none' })).toMatchObject({ status: 404 });
    expect(await putJob('orb-1', { template: 'orb' })).toEqual({ status: 422, detail: expect.stringContaining('parameter PKG') });
    expect(await put('/jobs/orb-1', { template: 'orb', params: { PKG: 'x' }, every: '90m' })).toMatchObject({
      status: 201,
      json: { platforms: ['orb-a', 'orb-b'], script: null, template: 'orb', every: '1h30m' },
    });
    expect((await post('/platforms/orb-b/drop')).status).toBeLessThan(300);
    expect((await post('/jobs/orb-1/execute')).json.runs).toMatchObject([{ platform: 'orb-a' }]);
    expect((await post('/jobs/orb-1/execute', { platform: 'orb-b' })).status).toBe(409);
    expect((await api('/platforms')).json.platforms).toContainEqual({ name: 'orb-b', dropped: true, workers: 0 });
    expect((await api('/templates/orb', { method: 'DELETE' })).status).toBe(409);
    expect((await api('/jobs/orb-1')).json.platforms).toHaveLength(2);
    expect((await api('/jobs/orb-1', { method: 'DELETE' })).status).toBe(204);
    expect((await api('/templates/orb', { method: 'DELETE' })).status).toBe(204);
    expect((await api('/templates/orb')).status).toBe(404);
    expect((await put('/templates/empty', { scripts: {} })).status).toBe(422);
  });
});
