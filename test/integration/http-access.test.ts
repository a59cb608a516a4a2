import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Scope } from '../../src/job/api.ts';
import { keys } from '../../src/redis/keys.ts';
import { createAccess } from '../../src/scheduler/access.ts';
import { type Asking, ask } from '../support/http.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

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
const post = (path: string, body: object = {}, headers: Record<string, string> = {}) => api(path, { method: 'POST', body, headers });
const RUN = { platform: 'test', script: 'true' };

/** Every operation that the server really has, from its router: `GET /api/v1/runs/:id`. */
function routeTable(): [string, string][] {
  const steps: string[] = [];
  const table: [string, string][] = [];
  for (const line of server.app.printRoutes({ commonPrefix: false }).split('\n')) {
    const [, indent, step, methods] = /^(.*[├└]── )(\S+) \((.+)\)$/.exec(line) ?? [];
    if (indent === undefined || step === undefined || methods === undefined) continue;
    steps.splice(indent.length / 4 - 1, steps.length, step);
    for (const method of methods.split(', ')) table.push([method, steps.join('').replace('*', '/*').replaceAll('//', '/')]);
  }
  return table;
}

describe('who may ask', () => {
  it('every route of the server needs a token, but health, signing in and signing out', async () => {
    const open: string[] = [];
    for (const [method, path] of routeTable()) {
      const { status } = await ask(server, path.replace(/:\w+|\*/g, 'x'), { method, token: null });
      if (status !== 401) open.push(`${method} ${path} ${status}`);
    }
    expect(routeTable().length).toBeGreaterThan(100);
    expect(open.sort()).toEqual([
      'GET /healthz 200',
      'GET /readyz 200',
      'GET /signin 200',
      'HEAD /healthz 200',
      'HEAD /readyz 200',
      'HEAD /signin 200',
      'POST /signout 303',
    ]);
  });

  it('every route of the interface is in its document', async () => {
    const { paths } = (await ask(server, '/api/openapi.json')).json as { paths: Record<string, Record<string, unknown>> };
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const routes = routeTable().map(([method, path]) => `${method} ${path.replace(/:(\w+)/g, '{$1}').replace('*', '{path}')}`);
    const missing = routes.filter(
      (route) => route.includes(' /api/v1/') && !described.includes(route) && !described.includes(route.replace('HEAD', 'GET')),
    );
    expect(missing).toEqual([]);
    expect(described.filter((one) => !routes.includes(one))).toEqual([]);
  });

  it('every operation needs a token, and one of enough scope, but health', async () => {
    const { paths } = (await ask(server, '/api/openapi.json')).json as { paths: Record<string, Record<string, { summary: string }>> };
    const tried: string[] = [];
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, { summary }] of Object.entries(methods)) {
        const scope = /\(scope (read|submit|admin)\)/.exec(summary)?.[1];
        const url = path.replace(/\{\w+\}/g, 'x');
        const without = await ask(server, url, { method: method.toUpperCase(), token: null });
        expect([url, without.status]).toEqual([url, scope === undefined ? 200 : 401]);
        if (scope !== undefined) expect(without.headers['www-authenticate']).toBe('Bearer');
        const tooSmall = scope === 'admin' ? tokens.submit : scope === 'submit' ? tokens.read : undefined;
        if (tooSmall !== undefined) expect((await ask(server, url, { method: method.toUpperCase(), token: tooSmall })).status).toBe(403);
        tried.push(`${method} ${path}`);
      }
    }
    expect(tried.length).toBeGreaterThan(30);
  });

  it('pages, the board and paths that nobody knows need one too; a browser is shown where to sign in', async () => {
    for (const path of ['/', '/runs/x', '/board', '/board/api/queues', '/metrics', '/nothing', '/api/v1/nothing']) {
      expect([path, (await ask(server, path, { token: null })).status]).toEqual([path, 401]);
    }
    const page = await ask(server, '/runs/x?a=b', { token: null, headers: { accept: 'text/html,*/*' } });
    expect(page).toMatchObject({ status: 302, headers: { location: '/signin?next=%2Fruns%2Fx%3Fa%3Db' } });
    expect((await ask(server, '/nothing', { method: 'POST', token: tokens.read })).status).toBe(404);
    expect((await ask(server, '/signin', { token: null })).status).toBe(200);
  });

  it('wrong tokens are refused, and no token is in Redis in clear', async () => {
    const wrong = [
      `${tokens.read}x`,
      `${tokens.read.slice(0, -1)}${tokens.read.endsWith('A') ? 'B' : 'A'}`,
      'x',
      `${server.token} `.repeat(2),
    ];
    for (const token of wrong) expect((await api('/info', { token })).status).toBe(401);
    const stored = JSON.stringify(await server.queues.redis.hgetall(keys.tokens));
    for (const token of [...Object.values(tokens), server.token]) expect(stored).not.toContain(token.split('_').at(-1));
  });

  it('a token is listed without its secret, and counts no more once it is revoked', async () => {
    const { id, token } = (await post('/tokens', { name: 'short-lived', scope: 'read' })).json;
    expect(token).toMatch(/^bld_[0-9A-Za-z]+_[\w-]{32,}$/);
    const listed = (await api('/tokens')).json.tokens.find((one: { id: string }) => one.id === id);
    expect(listed).toEqual({ id, name: 'short-lived', scope: 'read', createdAt: expect.any(String) });
    expect((await api('/info', { token })).status).toBe(200);
    expect((await api(`/tokens/${id}`, { method: 'DELETE' })).status).toBe(204);
    expect((await api('/info', { token })).status).toBe(401);
    expect((await api(`/tokens/${id}`, { method: 'DELETE' })).status).toBe(404);
  });
});

describe('a session', () => {
  const HTML_FORM = { 'content-type': 'application/x-www-form-urlencoded' };
  const signIn = (token: string) =>
    ask(server, '/signin', { method: 'POST', token: null, headers: HTML_FORM, body: `token=${token}&next=/` });
  const cookieOf = (answer: { headers: Record<string, string | string[] | undefined> }) => String(answer.headers['set-cookie']);

  it('stands for its token, in a cookie that scripts and other sites do not get', async () => {
    const answer = await signIn(tokens.submit);
    expect(answer).toMatchObject({ status: 303, headers: { location: '/' } });
    expect(cookieOf(answer)).toMatch(/^builder_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; /);
    const cookie = cookieOf(answer).split(';', 1)[0] ?? '';
    const stored = await server.queues.redis.keys('*session*');
    expect(stored.join()).not.toContain(cookie.split('=')[1]);
    const by = (headers: Record<string, string>) =>
      api('/runs', { method: 'POST', token: null, headers: { cookie, ...headers }, body: RUN });
    expect((await api('/info', { token: null, headers: { cookie } })).status).toBe(200);
    expect((await by({ origin: server.url })).status).toBe(201);
    expect((await by({ 'sec-fetch-site': 'same-origin' })).status).toBe(201);
    for (const headers of [
      {},
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site', origin: server.url },
    ]) {
      expect((await by(headers as Record<string, string>)).status).toBe(403);
    }
    expect((await api('/tokens', { token: null, headers: { cookie } })).status).toBe(403);
    await ask(server, '/signout', { method: 'POST', token: null, headers: { cookie, origin: server.url } });
    expect((await api('/info', { token: null, headers: { cookie } })).status).toBe(401);
  });

  it('ends with its token, the bootstrap token too', async () => {
    const { id, token } = (await post('/tokens', { name: 'page', scope: 'read' })).json;
    const cookie = cookieOf(await signIn(token)).split(';', 1)[0] ?? '';
    await api(`/tokens/${id}`, { method: 'DELETE' });
    expect((await api('/info', { token: null, headers: { cookie } })).status).toBe(401);
    expect((await signIn('wrong')).status).toBe(401);
    const [redis, headers] = [server.queues.redis, { cookie: cookieOf(await signIn(server.token)).split(';', 1)[0] }];
    const asking = { headers } as unknown as Parameters<ReturnType<typeof createAccess>['identify']>[0];
    expect(await createAccess({ redis, bootstrapToken: server.token }).identify(asking)).toMatchObject({ scope: 'admin', bySession: true });
    expect(await createAccess({ redis, bootstrapToken: randomUUID() }).identify(asking)).toBeNull();
  });
});

describe('a request', () => {
  it('is served for hosts of this machine and configured ones alone', async () => {
    const status = async (host: string) => (await api('/info', { headers: { host } })).status;
    for (const host of ['localhost', 'a.localhost:1', '10.1.2.3:8420', '[::1]:8420', 'Builder.Example:80'])
      expect(await status(host)).toBe(200);
    for (const host of ['evil.example', 'localhost.evil.example', 'builder.example.evil', ':80', 'a b'])
      expect(await status(host)).toBe(421);
    expect((await ask(server, '/healthz', { token: null, headers: { host: 'evil.example' } })).status).toBe(421);
  });

  it('that is wrong is told on one line as a problem, never with a stack', async () => {
    const json = { 'content-type': 'application/json' };
    const cases: [number, string, Asking, string][] = [
      [400, '/runs', { method: 'POST', body: '{"platform":', headers: json }, 'usage'],
      [415, '/runs', { method: 'POST', body: 'platform=x', headers: { 'content-type': 'text/plain' } }, 'unsupported-media-type'],
      [413, '/runs', { method: 'POST', headers: { ...json, 'content-length': String(1024 ** 3) } }, 'too-large'],
      [404, '/nothing', {}, 'not-found'],
      [400, '/%zz', {}, 'usage'],
      [422, '/runs', { method: 'POST', body: { platform: 'Bad Name', script: 'x' } }, 'invalid-value'],
    ];
    for (const [status, path, asking, code] of cases) {
      const answer = await api(path, asking);
      expect([path, answer.status, answer.json]).toMatchObject([path, status, { status, code, detail: expect.any(String) }]);
      expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(answer.json.detail).not.toMatch(/\n|\.[jt]s:\d/);
    }
    expect((await post('/runs', { script: 7, plattform: 'x' })).json.detail).toBe(
      'platform: expected string, got nothing; script: expected string, got a number; expected no field "plattform"',
    );
    expect((await post('/runs', { ...RUN, priority: 'urgent' })).json.detail).toBe('priority: expected low, normal, high, got "urgent"');
    expect((await post('/runs', { ...RUN, env: { 'A-B': '' } })).json.detail).toMatch(/^env\.A-B: expected a variable name of letters/);
  });
});

describe('the state of the server', () => {
  it('is told to everybody as far as it concerns them', async () => {
    await server.queues.redis.sadd(keys.platforms, 'seen');
    const { text } = await ask(server, '/metrics', { token: tokens.read });
    expect(text).toMatch(/^builder_info\{version="[^"]+"\} 1$/m);
    expect(text).toMatch(/^builder_runs_waiting\{platform="seen"\} 0$/m);
    expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
    expect((await api('/workers')).json).toEqual({ workers: [] });
    expect((await api('/info')).json.queues).toHaveProperty('seen');
    expect((await ask(server, '/readyz', { token: null })).json).toEqual({ status: 'ready' });
  });

  it('is not ready, and says so, while Redis is away; it is alive all the same', async () => {
    await server.redis.kill();
    const unready = await until(async () => {
      const answer = await ask(server, '/readyz', { token: null });
      return answer.status === 503 && answer;
    }, 'the server to miss Redis');
    expect(unready.json).toMatchObject({ code: 'redis-unavailable' });
    expect(await api('/info')).toMatchObject({ status: 503, json: { code: 'redis-unavailable' } });
    expect((await ask(server, '/healthz', { token: null })).status).toBe(200);
    await server.redis.start();
    await until(async () => (await ask(server, '/readyz', { token: null })).status === 200, 'the server to be ready again');
  });
});
