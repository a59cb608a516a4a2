import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Queue } from 'bullmq';
import { connect } from '../../src/redis/connection.ts';
import { BULL_PREFIX } from '../../src/redis/keys.ts';
import { type Asking, ask } from '../support/http.ts';
import { runOf, type System, startSystem } from '../support/system.ts';
import { until } from '../support/until.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem('--sandbox', 'none', '--concurrency', '1');
});

afterAll(() => system.stop());

const board = (path: string, o?: Asking) => ask(system, `/board/api${path}`, o);
const press = (path: string, body?: object) => board(path, { method: 'PUT', ...(body === undefined ? {} : { body }) });
const submit = async (platform: string, script: string): Promise<string> => {
  const answer = await ask(system, '/api/v1/runs', { method: 'POST', body: { platform, script } });
  expect(answer.status).toBe(201);
  return answer.json.id;
};
const finished = (id: string) =>
  until(async () => ((await runOf(system, id)).state === 'finished' ? runOf(system, id) : null), `${id} to end`);
const queues = async (): Promise<string[]> => (await board('/queues')).json.queues.map((queue: { name: string }) => queue.name);

describe('signing in', () => {
  const form = (token: string, headers: Record<string, string> = {}): Asking => ({
    method: 'POST',
    token: null,
    body: new URLSearchParams({ token, next: '/board' }).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded', origin: system.url, ...headers },
  });

  it('is where a browser without a session is sent', async () => {
    const answer = await ask(system, '/board', { token: null, headers: { accept: 'text/html' } });
    expect(answer).toMatchObject({ status: 302, headers: { location: '/signin?next=%2Fboard' } });
  });

  it('turns a token into a cookie that no script and no other site can use', async () => {
    const answer = await ask(system, '/signin', form(system.token));
    expect(answer).toMatchObject({ status: 303, headers: { location: '/board' } });
    const cookie = String(answer.headers['set-cookie']);
    expect(cookie).toMatch(/^builder_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=\d+$/);
    const session = { token: null, headers: { cookie: cookie.split(';')[0] ?? '' } };
    expect((await board('/queues', session)).status).toBe(200);
    const pause = (headers: Record<string, string>) =>
      board('/queues/pause', { ...session, method: 'PUT', headers: { ...session.headers, ...headers } });
    expect((await pause({ origin: 'http://evil.example' })).status).toBe(403);
    expect((await pause({ 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    expect((await pause({ origin: system.url })).status).toBe(200);
    await press('/queues/resume');
    await ask(system, '/signout', { method: 'POST', token: null, headers: { ...session.headers, origin: system.url } });
    expect((await board('/queues', session)).status).toBe(401);
  });

  it('refuses a wrong token, a form of another site, and to lead elsewhere', async () => {
    expect((await ask(system, '/signin', form('wrong'))).status).toBe(401);
    expect((await ask(system, '/signin', form(system.token, { origin: 'http://evil.example' }))).status).toBe(403);
    for (const next of ['//evil.example', 'http://evil.example', '/\\evil.example', '\\evil']) {
      const body = new URLSearchParams({ token: system.token, next }).toString();
      expect((await ask(system, '/signin', { ...form(system.token), body })).headers.location).toBe('/');
    }
  });

  it('ends when the token is revoked', async () => {
    const made = await system.json('token', 'create', 'someone', '--scope', 'read');
    const answer = await ask(system, '/signin', form(made.token));
    const session = { token: null, headers: { cookie: String(answer.headers['set-cookie']).split(';')[0] ?? '' } };
    expect((await board('/queues', session)).status).toBe(200);
    expect((await system.builder('token', 'revoke', made.id)).code).toBe(0);
    expect((await board('/queues', session)).status).toBe(401);
  });
});

describe('the board', () => {
  it('shows the platforms and the ticks, and a platform that appears later', async () => {
    expect(await queues()).toEqual(expect.arrayContaining(['tick', 'run-test']));
    const id = await submit('new-platform', 'true');
    expect(await queues()).toContain('run-new-platform');
    await press(`/queues/run-new-platform/${id}/clean`);
  });

  it('shows a run’s console, and links to its page', async () => {
    const id = await submit('test', 'echo said; echo loud >&2; exit 2');
    await finished(id);
    const logs = (await board(`/queues/run-test/${id}/logs`)).json;
    expect(logs).toEqual(['said', 'loud', `all of it: /runs/${id}`]);
    const { job, status } = (await board(`/queues/run-test/${id}`)).json;
    expect(status).toBe('failed');
    expect(job).toMatchObject({ externalUrl: { href: `/runs/${id}` }, failedReason: 'failed: exit code 2' });
  });

  it('lets a token of scope read see, and press nothing', async () => {
    const reader = (await system.json('token', 'create', 'viewer', '--scope', 'read')).token;
    const submitter = (await system.json('token', 'create', 'producer', '--scope', 'submit')).token;
    for (const token of [reader, submitter]) {
      expect((await board('/queues', { token })).status).toBe(200);
      expect((await board('/queues/pause', { method: 'PUT', token })).status).toBe(403);
    }
  });
});

describe('a button', () => {
  it('remove cancels a run that waits, and leaves the record of one that has ended', async () => {
    const waiting = await submit('nowhere', 'true');
    expect((await press(`/queues/run-nowhere/${waiting}/clean`)).status).toBe(200);
    expect(await runOf(system, waiting)).toMatchObject({ state: 'finished', outcome: 'cancelled' });
    const ended = await submit('test', 'true');
    const before = await finished(ended);
    expect((await press(`/queues/run-test/${ended}/clean`)).status).toBe(200);
    expect(await runOf(system, ended)).toEqual(before);
    expect((await board(`/queues/run-test/${ended}`)).status).toBe(404);
  });

  it('retry runs it again as another attempt', async () => {
    const id = await submit('test', 'exit $((2 - BUILDER_ATTEMPT))');
    expect(await finished(id)).toMatchObject({ outcome: 'failed', attempt: 1 });
    expect((await press(`/queues/run-test/${id}/retry`)).status).toBe(200);
    const run = await until(async () => ((await runOf(system, id)).attempts.length === 2 ? finished(id) : null), 'the second attempt');
    expect(run).toMatchObject({ outcome: 'succeeded', attempt: 2 });
    expect(run.attempts.map(({ outcome }) => outcome)).toEqual(['failed', 'succeeded']);
  });

  it('pause keeps a platform’s runs waiting until resume', async () => {
    expect((await press('/queues/run-test/pause')).status).toBe(200);
    const id = await submit('test', 'true');
    expect(
      (await board('/queues?activeQueue=run-test')).json.queues.find((queue: { name: string }) => queue.name === 'run-test').isPaused,
    ).toBe(true);
    expect((await runOf(system, id)).state).toBe('waiting');
    expect((await press('/queues/run-test/resume')).status).toBe(200);
    expect(await finished(id)).toMatchObject({ outcome: 'succeeded' });
  });

  it('add submits a run, and refuses rubbish', async () => {
    const add = (data: unknown) => board('/queues/run-test/add', { method: 'POST', body: { name: 'x', data, options: {} } });
    const added = await add({ script: 'echo added' });
    expect(added.status).toBe(200);
    expect(await finished(added.json.job.id)).toMatchObject({ outcome: 'succeeded', trigger: 'board' });
    for (const rubbish of [null, 'x', {}, { script: 1 }, { script: 'true', frob: 1 }, []]) expect((await add(rubbish)).status).toBe(422);
  });

  it('clean cancels what waits', async () => {
    const ids = [await submit('nowhere', 'true'), await submit('nowhere', 'true')];
    expect((await press('/queues/run-nowhere/clean/prioritized')).status).toBe(200);
    for (const id of ids) expect(await runOf(system, id)).toMatchObject({ outcome: 'cancelled' });
  });

  it.each([
    ['PUT', '/queues/run-test/obliterate', 'drop-platform'],
    ['PUT', '/queues/run-test/empty', 'drop-platform'],
    ['PUT', '/queues/tick/job-schedulers/x/remove', 'builder schedule'],
    ['PATCH', '/queues/tick/job-schedulers/x', 'builder schedule'],
    ['PUT', '/queues/tick/pause', 'builder schedule'],
    ['PATCH', '/queues/run-test/x/update-data', 'builder cancel'],
    ['PUT', '/queues/run-test/concurrency', '--concurrency'],
    ['PUT', '/queues/run-test/clean/active', 'builder cancel'],
  ])('%s %s is refused, and says what to use instead', async (method, path, instead) => {
    const answer = await board(path, { method });
    expect([answer.status, answer.json.message]).toEqual([409, expect.stringContaining(instead)]);
  });

  it('for a queue or run that is not there is 404', async () => {
    expect((await press('/queues/run-unheard/pause')).status).toBe(404);
    expect((await press('/queues/run-test/00000000-0000-4000-8000-000000000000/retry')).status).toBe(404);
  });
});

describe('rubbish in a queue', () => {
  it('is refused by the worker, and the next run goes on', async () => {
    const connection = connect(`unix:${system.dir}/redis.sock`, 'patient');
    const queue = new Queue('run-test', { connection, prefix: BULL_PREFIX });
    await queue.add('rubbish', { any: 'thing' }, { jobId: 'not-a-run' });
    await queue.add('rubbish', {}, { jobId: '00000000-0000-4000-8000-000000000001' });
    const next = await submit('test', 'echo fine');
    expect(await finished(next)).toMatchObject({ outcome: 'succeeded' });
    await until(async () => (await queue.getJobState('not-a-run')) === 'failed', 'the rubbish to be refused');
    await queue.close();
    connection.disconnect();
  });
});
