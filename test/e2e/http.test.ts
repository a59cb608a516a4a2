import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { sha256Of } from '../support/contents.ts';
import { type Asking, ask } from '../support/http.ts';
import { runOf, type System, startSystem } from '../support/system.ts';
import { until } from '../support/until.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem('--sandbox', 'none');
});

afterAll(() => system.stop());

const api = (path: string, o?: Asking) => ask(system, `/api/v1${path}`, o);
const post = (path: string, body?: object, headers?: Record<string, string>) =>
  api(path, { method: 'POST', ...(body === undefined ? {} : { body }), ...(headers === undefined ? {} : { headers }) });
const submit = async (script: string, options: object = {}): Promise<string> => {
  const answer = await post('/runs', { platform: 'test', script, ...options });
  expect(answer.status).toBe(201);
  return answer.json.id;
};
const finished = (id: string) =>
  until(async () => ((await runOf(system, id)).state === 'finished' ? runOf(system, id) : null), `${id} to end`);
const OPERATIONS: [string, string][] = [
  ['GET', '/api/v1/info'],
  ['GET', '/api/v1/jobs'],
  ['GET', '/api/v1/jobs/x'],
  ['GET', '/api/v1/jobs/x/why'],
  ['PUT', '/api/v1/jobs/x'],
  ['DELETE', '/api/v1/jobs/x'],
  ['POST', '/api/v1/jobs/x/execute'],
  ['POST', '/api/v1/jobs/x/reschedule'],
  ['GET', '/api/v1/runs'],
  ['POST', '/api/v1/runs'],
  ['GET', '/api/v1/runs/00000000'],
  ['GET', '/api/v1/runs/00000000/why'],
  ['POST', '/api/v1/runs/00000000/cancel'],
  ['POST', '/api/v1/runs/00000000/rerun'],
  ['GET', '/api/v1/runs/00000000/log'],
  ['GET', '/api/v1/runs/00000000/artifacts'],
  ['GET', '/api/v1/runs/00000000/artifacts/a'],
  ['HEAD', '/api/v1/runs/00000000/artifacts/a'],
  ['PUT', '/api/v1/inputs'],
  ['HEAD', `/api/v1/inputs/${'0'.repeat(64)}`],
  ['GET', '/api/v1/templates'],
  ['GET', '/api/v1/templates/x'],
  ['PUT', '/api/v1/templates/x'],
  ['DELETE', '/api/v1/templates/x'],
  ['GET', '/api/v1/workers'],
  ['GET', '/api/v1/platforms'],
  ['POST', '/api/v1/platforms/x/drop'],
  ['POST', '/api/v1/platforms/x/undrop'],
  ['GET', '/api/v1/tokens'],
  ['POST', '/api/v1/tokens'],
  ['DELETE', '/api/v1/tokens/x'],
  ['GET', '/api/openapi.json'],
  ['GET', '/metrics'],
  ['GET', '/'],
  ['GET', '/runs/00000000'],
  ['GET', '/board'],
  ['GET', '/board/api/queues'],
  ['PUT', '/board/api/queues/pause'],
  ['GET', '/board/static/x.js'],
  ['GET', '/nowhere'],
  ['OPTIONS', '/api/v1/runs'],
];

describe('without a token', () => {
  it.each(OPERATIONS)('%s %s is 401', async (method, path) => {
    const answer = await ask(system, path, { method, token: null });
    expect([answer.status, answer.headers['www-authenticate']]).toEqual([401, 'Bearer']);
    expect((await ask(system, path, { method, token: 'bld_000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' })).status).toBe(401);
  });

  it('only health is told', async () => {
    for (const path of ['/healthz', '/readyz']) expect((await ask(system, path, { token: null })).status).toBe(200);
  });

  it('every documented operation is in the list above', async () => {
    const { paths } = (await ask(system, '/api/openapi.json')).json;
    const documented = Object.entries(paths as Record<string, object>).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const tried = OPERATIONS.map(([method, path]) =>
      `${method} ${path}`
        .replace(/0{64}|00000000|\bx$/g, '{…}')
        .replace('/x/', '/{…}/')
        .replace(/\/a$/, '/{…}'),
    );
    const untried = documented
      .map((one) => one.replace(/\{\w+\}/g, '{…}'))
      .filter((one) => !tried.includes(one) && !/healthz|readyz/.test(one));
    expect(untried).toEqual([]);
  });
});

describe('a request', () => {
  it('for a host that is not served is 421, even with a token', async () => {
    for (const host of ['evil.example', 'evil.example:80', '127.0.0.1.evil.example', 'localhost.evil.example']) {
      expect((await api('/info', { headers: { host } })).status).toBe(421);
    }
    for (const host of ['localhost:1', '127.0.0.1', '[::1]:8420', 'builder.localhost'])
      expect((await api('/info', { headers: { host } })).status).toBe(200);
  });

  it('gets no CORS, and headers that keep browsers from guessing', async () => {
    const { headers } = await api('/info', { headers: { origin: 'http://evil.example' } });
    expect(headers['access-control-allow-origin']).toBeUndefined();
    expect(headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'content-security-policy': "default-src 'none'" });
  });

  it.each<[string, () => Promise<{ status: number; json: { code: string; detail: string } }>, number, string]>([
    ['that is no JSON', () => api('/runs', { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } }), 400, 'usage'],
    [
      'of another type',
      () => api('/runs', { method: 'POST', body: 'x', headers: { 'content-type': 'text/xml' } }),
      415,
      'unsupported-media-type',
    ],
    ['with a field too many', () => post('/runs', { platform: 'test', script: 'true', frob: 1 }), 422, 'invalid-value'],
    ['without a script', () => post('/runs', { platform: 'test' }), 422, 'invalid-value'],
    ['for a name that is none', () => post('/runs', { platform: 'A/b', script: 'true' }), 422, 'invalid-value'],
    ['with a timeout that is none', () => post('/runs', { platform: 'test', script: 'true', timeoutMs: -1 }), 422, 'invalid-value'],
    [
      'with an input that leads out',
      () => post('/runs', { platform: 'test', script: 'true', inputs: [{ path: '../x', sha256: '0'.repeat(64) }] }),
      422,
      'invalid-value',
    ],
    [
      'with an input that nobody has sent',
      () => post('/runs', { platform: 'test', script: 'true', inputs: [{ path: 'x', sha256: '0'.repeat(64) }] }),
      422,
      'invalid-value',
    ],
    [
      'for a job with a slash',
      () => api('/jobs/a%2Fb', { method: 'PUT', body: { platform: 'test', script: 'true' } }),
      422,
      'invalid-value',
    ],
    [
      'for a job with two schedules',
      () => api('/jobs/a', { method: 'PUT', body: { platform: 'test', script: 'true', cron: '* * * * *', every: '5m' } }),
      422,
      'invalid-value',
    ],
    ['for a job without a script', () => api('/jobs/a', { method: 'PUT', body: {} }), 422, 'invalid-value'],
    [
      'for a job in the past',
      () => api('/jobs/a', { method: 'PUT', body: { platform: 'test', script: 'true', at: '2001-01-01T00:00:00Z' } }),
      422,
      'invalid-value',
    ],
    ['for an unknown run', () => api(`/runs/${randomUUID()}`), 404, 'not-found'],
    ['for a run by too short a prefix', () => api('/runs/abc'), 422, 'invalid-value'],
    ['for an unknown path', () => api('/frob'), 404, 'not-found'],
    ['for a page that nobody gave', () => api('/runs?cursor=nonsense'), 422, 'invalid-value'],
    ['for no runs', () => api('/runs', { method: 'POST', body: [] }), 422, 'invalid-value'],
  ])('%s is a problem on one line', async (_, asked, status, code) => {
    const answer = await asked();
    expect(answer).toMatchObject({ status, json: { code, status } });
    expect(answer.json.detail).not.toMatch(/\n|\bat .*\.[jt]s/);
  });
});

describe('submitting', () => {
  it('one run answers with it, an array with all in their order', async () => {
    const many = await api('/runs', {
      method: 'POST',
      body: [1, 2, 3].map((n) => ({ platform: 'nowhere', script: `echo ${n}`, labels: { n: String(n) } })),
    });
    expect(many.status).toBe(201);
    expect(many.json.runs.map((run: { labels: { n: string } }) => run.labels.n)).toEqual(['1', '2', '3']);
    for (const run of many.json.runs)
      expect((await post(`/runs/${run.id}/cancel`, {})).json).toMatchObject({ state: 'finished', outcome: 'cancelled' });
  });

  it('under one Idempotency-Key makes one run, under a hundred parallel requests', async () => {
    const headers = { 'idempotency-key': randomUUID() };
    const body = { platform: 'nowhere', script: 'true' };
    const answers = await Promise.all(Array.from({ length: 100 }, () => post('/runs', body, headers)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
    expect((await api('/info')).json.queues.nowhere.waiting).toBe(1);
    expect((await post('/runs', { ...body, script: 'false' }, headers)).status).toBe(422);
    await post(`/runs/${answers[0]?.json.id}/cancel`, {});
  });

  it('again makes a new run of the same', async () => {
    const id = await submit('echo $GREETING', { env: { GREETING: 'hello' }, labels: { a: 'b' } });
    await finished(id);
    const again = await post(`/runs/${id}/rerun`);
    expect(again).toMatchObject({ status: 201, json: { trigger: 'rerun', labels: { a: 'b' } } });
    await finished(again.json.id);
    expect((await api(`/runs/${again.json.id}/log`)).text).toBe('hello\n');
  });

  it('lists page by page, newest first', async () => {
    const ids = [];
    for (let n = 0; n < 5; n += 1) ids.unshift(await submit('true', { labels: { page: String(n) } }));
    const first = (await api('/runs?limit=3')).json;
    const second = (await api(`/runs?limit=2&cursor=${first.next}`)).json;
    expect([...first.runs, ...second.runs].map((run: { id: string }) => run.id)).toEqual(ids);
    expect((await api('/runs?platform=nowhere&outcome=succeeded')).json.runs).toEqual([]);
  });
});

describe('inputs', () => {
  it('are stored once per content, with or without a declared digest', async () => {
    const content = randomUUID();
    const sha256 = sha256Of(content);
    expect((await api(`/inputs/${sha256}`, { method: 'HEAD' })).status).toBe(404);
    expect(await api('/inputs', { method: 'PUT', body: content })).toMatchObject({ status: 201, json: { sha256, bytes: 36 } });
    expect((await api(`/inputs/${sha256}`, { method: 'HEAD' })).status).toBe(200);
    expect(
      await api('/inputs', { method: 'PUT', body: content, headers: { 'x-content-sha256': sha256, 'content-type': 'text/html' } }),
    ).toMatchObject({ status: 200, json: { sha256 } });
    expect(await api('/inputs', { method: 'PUT' })).toMatchObject({ json: { sha256: sha256Of(''), bytes: 0 } });
  });

  it('that are not what was declared are refused, and nothing of them is kept', async () => {
    const declared = sha256Of(randomUUID());
    const answer = await api('/inputs', { method: 'PUT', body: 'other', headers: { 'x-content-sha256': declared } });
    expect(answer).toMatchObject({ status: 422, json: { code: 'invalid-value' } });
    expect((await api(`/inputs/${declared}`, { method: 'HEAD' })).status).toBe(404);
  });
});

describe('artifacts', () => {
  let id: string;

  beforeAll(async () => {
    id = await submit('mkdir -p "sub dir"; printf 0123456789 > "sub dir/ä#?.html"; : > empty');
    await finished(id);
  });

  const path = `artifacts/${encodeURIComponent('sub dir')}/${encodeURIComponent('ä#?.html')}`;

  it('are listed, and served whole, inert and with their digest', async () => {
    expect((await api(`/runs/${id}/artifacts`)).json.artifacts).toHaveLength(2);
    const { status, text, headers } = await api(`/runs/${id}/${path}`);
    expect([status, text]).toEqual([200, '0123456789']);
    expect(headers).toMatchObject({
      etag: `"${sha256Of('0123456789')}"`,
      'content-type': 'application/octet-stream',
      'content-length': '10',
      'content-security-policy': "default-src 'none'; sandbox",
      'x-content-type-options': 'nosniff',
    });
    expect(headers['content-disposition']).toMatch(/^attachment; /);
    expect(await api(`/runs/${id}/artifacts/empty`)).toMatchObject({ status: 200, text: '' });
  });

  it.each<[string, number, string]>([
    ['bytes=2-4', 206, '234'],
    ['bytes=7-', 206, '789'],
    ['bytes=-2', 206, '89'],
    ['bytes=0-99', 206, '0123456789'],
    ['bytes=-99', 206, '0123456789'],
    ['bytes=0-1,3-4', 200, '0123456789'],
    ['lines=1-2', 200, '0123456789'],
    ['bytes=4-2', 200, '0123456789'],
  ])('range %s', async (range, status, text) =>
    expect(await api(`/runs/${id}/${path}`, { headers: { range } })).toMatchObject({ status, text }),
  );

  it('beyond their end, unchanged, by HEAD and unknown', async () => {
    expect(await api(`/runs/${id}/${path}`, { headers: { range: 'bytes=10-' } })).toMatchObject({
      status: 416,
      headers: { 'content-range': 'bytes */10' },
    });
    expect(await api(`/runs/${id}/${path}`, { headers: { 'if-none-match': `"${sha256Of('0123456789')}"` } })).toMatchObject({
      status: 304,
      text: '',
    });
    expect(await api(`/runs/${id}/${path}`, { method: 'HEAD' })).toMatchObject({
      status: 200,
      text: '',
      headers: { 'content-length': '10' },
    });
    for (const unknown of ['nothing', '../manifest.json', '%2e%2e/x', 'sub%20dir'])
      expect((await api(`/runs/${id}/artifacts/${unknown}`)).status).toBe(404);
  });
});

describe('a log', () => {
  let id: string;

  beforeAll(async () => {
    id = await submit('echo one; echo two; echo "<b>three</b>"');
    await finished(id);
  });

  it('is text, JSON lines or events, as asked for', async () => {
    const text = await api(`/runs/${id}/log`);
    expect(text).toMatchObject({
      text: 'one\ntwo\n<b>three</b>\n',
      headers: { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' },
    });
    const lines = (await api(`/runs/${id}/log`, { headers: { accept: 'application/x-ndjson' } })).text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines[1]).toEqual({ line: 2, atMs: expect.any(Number), source: 'stdout', text: 'two' });
    expect(lines.at(-1)).toEqual({ end: expect.objectContaining({ lines: 3, outcome: 'succeeded', sha256: sha256Of(text.body) }) });
    const events = (await api(`/runs/${id}/log`, { headers: { accept: 'text/event-stream' } })).text;
    expect(events).toMatch(/^id: 1\ndata: \{"line":1.*\}\n\nid: 2\n/);
    expect(events).toMatch(/event: end\ndata: \{"end":.*\}\n\n$/);
  });

  it('goes on where a reader was', async () => {
    expect((await api(`/runs/${id}/log?from=3`)).text).toBe('<b>three</b>\n');
    const events = (await api(`/runs/${id}/log`, { headers: { accept: 'text/event-stream', 'last-event-id': '2' } })).text;
    expect(events).toMatch(/^id: 3\n/);
    expect((await api(`/runs/${id}/log?from=0`)).status).toBe(422);
    expect((await api(`/runs/${id}/log?attempt=7`)).status).toBe(404);
  });

  it('of a run that never started is its end alone', async () => {
    const never = (await post('/runs', { platform: 'nowhere', script: 'true' })).json.id;
    const following = api(`/runs/${never}/log?follow=1`, { headers: { accept: 'application/x-ndjson' } });
    await post(`/runs/${never}/cancel`, {});
    expect(JSON.parse((await following).text)).toEqual({ end: expect.objectContaining({ lines: 0, outcome: 'cancelled' }) });
  });
});

describe('a job', () => {
  it('is made, kept, changed and removed', async () => {
    const body = { platform: 'test', script: 'echo $A', env: { A: '1' }, period: 'weekly' };
    const made = await api('/jobs/nightly', { method: 'PUT', body, headers: { 'if-none-match': '*' } });
    expect(made).toMatchObject({
      status: 201,
      json: { name: 'nightly', platforms: ['test'], script: 'echo $A', period: 'weekly', env: { A: '1' } },
    });
    expect((await api('/jobs/nightly', { method: 'PUT', body, headers: { 'if-none-match': '*' } })).status).toBe(409);
    const changed = await api('/jobs/nightly', { method: 'PUT', body: { ...body, env: { A: '2' } } });
    expect(changed).toMatchObject({ status: 200, json: { next: made.json.next, createdAt: made.json.createdAt, env: { A: '2' } } });
    const { runs } = (await post('/jobs/nightly/execute')).json;
    await finished(runs[0].id);
    expect((await api(`/runs/${runs[0].id}/log`)).text).toBe('2\n');
    expect((await post('/jobs/nightly/execute', { platform: 'other' })).status).toBe(422);
    expect((await post('/jobs/nightly/reschedule', { next: '2031-06-01T08:00:00+02:00' })).json.next).toBe('2031-06-01T06:00:00.000Z');
    expect((await api('/jobs/nightly', { method: 'DELETE' })).status).toBe(204);
    expect((await api('/jobs/nightly')).status).toBe(404);
    expect((await api('/runs?job=nightly')).json.runs).toHaveLength(1);
  });
});

describe('metrics', () => {
  it('are Prometheus’ text', async () => {
    const { text } = await ask(system, '/metrics');
    expect(text).toMatch(/^builder_runs_waiting\{platform="test"\} 0$/m);
    expect(text).toMatch(/^builder_workers 1$/m);
  });
});
