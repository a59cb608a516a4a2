import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connect } from '../../src/redis/connection.ts';
import { BULL_PREFIX, runQueue } from '../../src/redis/keys.ts';
import { sha256Of } from '../support/contents.ts';
import { ask } from '../support/http.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { type Program, startProgram } from '../support/system.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const TOKEN = 'a-bootstrap-token-of-a-test';
let temp: TempFolder;
let redis: TestRedis;
let env: Record<string, string>;
let server: Program;
let access: { url: string; token: string };
const workers: Program[] = [];

const urlOf = (program: Program): Promise<string> => until(() => /"url":"(http:[^"]+)"/.exec(program.stderr)?.[1], 'the server to serve');

function startWorker(name: string, ...words: string[]): Program {
  const flags = words.flatMap((word) => (word.startsWith('--') ? [word] : ['--platform', word]));
  const worker = startProgram(['worker', '--name', name, '--concurrency', '2', '--sandbox', 'none', ...flags], { env });
  workers.push(worker);
  return worker;
}

const takes = (worker: Program) => until(() => worker.stderr.includes('takes runs'), 'the worker to take runs');
const api = (path: string, body?: object) => ask(access, `/api/v1${path}`, body === undefined ? {} : { method: 'POST', body });
const submit = async (platform: string, script: string): Promise<string> => (await api('/runs', { platform, script })).json.id;
const finished = (id: string) =>
  until(async () => {
    const run = (await api(`/runs/${id}`)).json;
    return run.state === 'finished' ? run : null;
  }, `run ${id} to end`);

beforeAll(async () => {
  temp = tempFolder();
  redis = await startRedis();
  mkdirSync(`${temp.path}/work`);
  writeFileSync(`${temp.path}/token`, `${TOKEN}\n`);
  env = {
    BUILDER_REDIS_URL: redis.url,
    BUILDER_STORE: `file://${temp.path}/store`,
    BUILDER_PORT: '0',
    BUILDER_BOOTSTRAP_TOKEN_FILE: `${temp.path}/token`,
    BUILDER_WORK_DIR: `${temp.path}/work`,
  };
  server = startProgram(['server'], { env });
  access = { url: await urlOf(server), token: TOKEN };
  for (const worker of [startWorker('one', 'debian-12', 'any'), startWorker('two', 'freebsd-14', 'any')]) await takes(worker);
});

afterAll(async () => {
  for (const { child } of [...workers, server]) child.kill('SIGTERM');
  for (const { ended } of [...workers, server]) await ended;
  await redis.stop();
  temp.remove();
});

describe('workers of several platforms', () => {
  it('take the runs of their own platforms alone', async () => {
    const ids = {
      debian: await submit('debian-12', 'true'),
      freebsd: await submit('freebsd-14', 'true'),
      plan9: await submit('plan9', 'true'),
    };
    expect(await finished(ids.debian)).toMatchObject({ worker: 'one', outcome: 'succeeded' });
    expect(await finished(ids.freebsd)).toMatchObject({ worker: 'two', outcome: 'succeeded' });
    const info = (await api('/info')).json;
    expect(info.queues.plan9).toMatchObject({ waiting: 1 });
    expect(info.workers.map(({ name, platforms }: { name: string; platforms: string[] }) => [name, platforms])).toEqual([
      ['one', ['debian-12', 'any']],
      ['two', ['freebsd-14', 'any']],
    ]);
    expect((await api(`/runs/${ids.plan9}/cancel`, {})).status).toBe(200);
  });

  it('run no more at a time than they were told, over all their platforms', async () => {
    const script = `mkdir ${temp.path}/slot-$BUILDER_RUN_ID; ls ${temp.path} | grep -c slot-; sleep 0.1; rmdir ${temp.path}/slot-$BUILDER_RUN_ID`;
    const ids = [];
    for (let n = 0; n < 6; n += 1) for (const platform of ['debian-12', 'any']) ids.push(await submit(platform, script));
    for (const id of ids) {
      expect(await finished(id)).toMatchObject({ outcome: 'succeeded' });
      expect(Number((await ask(access, `/api/v1/runs/${id}/log`)).text)).toBeLessThanOrEqual(4);
    }
  });
});

describe('a worker', () => {
  it('of several platforms takes hardly more than it can run, and gives back what it took too much', async () => {
    const worker = startWorker('of-two', '--concurrency=2', 'left', 'right');
    await takes(worker);
    const ids: Record<string, string[]> = { left: [], right: [] };
    for (let n = 0; n < 12; n += 1) for (const platform of ['left', 'right']) ids[platform]?.push(await submit(platform, 'sleep 0.03'));
    const client = connect(redis.url, 'command');
    let taken = 0;
    for (const [platform, some] of Object.entries(ids)) {
      for (const id of some) {
        expect(await finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
        taken += Number(await client.hget(`${BULL_PREFIX}:${runQueue(platform)}:${id}`, 'ats'));
      }
    }
    client.disconnect();
    // Each was taken; before, each was given back twice or more.
    expect(taken).toBeGreaterThanOrEqual(24);
    expect(taken).toBeLessThan(36);
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
  });

  it('runs the next script while it stores what one left, and never two at a time', async () => {
    const worker = startWorker('by-itself', '--concurrency=1', 'one-by-one');
    await takes(worker);
    const script = 'echo begun $(date +%s%N); head -c 100000000 /dev/zero > data; echo ended $(date +%s%N)';
    const ids = [await submit('one-by-one', script), await submit('one-by-one', script)];
    const [first, second] = await Promise.all(ids.map(finished));
    expect(Date.parse(second.startedAt)).toBeLessThan(Date.parse(first.finishedAt));
    const logs = await Promise.all(ids.map(async (id) => (await ask(access, `/api/v1/runs/${id}/log`)).text));
    const [ended, begun] = [/ended (\d+)/.exec(logs[0] ?? '')?.[1], /begun (\d+)/.exec(logs[1] ?? '')?.[1]];
    expect(BigInt(begun ?? 0)).toBeGreaterThan(BigInt(ended ?? 0));
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
  });

  it('that gets SIGTERM finishes what it runs, takes nothing new, and is gone from the list', async () => {
    const worker = startWorker('leaving', 'short-lived');
    await takes(worker);
    const id = await submit('short-lived', 'echo begun; sleep 0.5; echo done');
    await until(async () => (await api(`/runs/${id}`)).json.state === 'running', 'the run to be running');
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
    expect(await finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
    expect((await api('/workers')).json.workers.map(({ name }: { name: string }) => name)).toEqual(['one', 'two']);
    expect(readdirSync(`${temp.path}/work`).sort()).toEqual(['one', 'two']);
  });

  it('with --once takes one run and ends, and leaves the next for others', async () => {
    const ids = [await submit('rare', 'echo first'), await submit('rare', 'echo second')];
    const worker = startWorker('single', '--once', 'rare');
    expect((await worker.ended).code).toBe(0);
    expect(await finished(ids[0] ?? '')).toMatchObject({ outcome: 'succeeded', worker: 'single', attempt: 1 });
    expect((await api(`/runs/${ids[1]}`)).json).toMatchObject({ state: 'waiting', attempts: [] });
    expect((await startWorker('last', '--once', 'rare').ended).code).toBe(0);
    expect(await finished(ids[1] ?? '')).toMatchObject({ outcome: 'succeeded', worker: 'last', attempt: 1 });
  });

  it('ends a run as lost, and keeps what it said and left, where its sandbox breaks: its script is not executed anew', async () => {
    const id = await submit('debian-12', 'echo said; echo left > left; sleep 0.1; kill -9 $PPID; sleep 300');
    const run = await finished(id);
    expect(run).toMatchObject({ outcome: 'lost', reason: expect.stringMatching(/^broken: /), attempt: 1, artifactCount: 1 });
    expect((await ask(access, `/api/v1/runs/${id}/log`)).text).toMatch(/^said\n/);
  });

  it('ends a run as cancelled where it was asked for, though its sandbox breaks', async () => {
    const run = (await api('/runs', { platform: 'debian-12', script: 'kill -STOP $PPID; echo said; sleep 300', graceMs: 100 })).json;
    await until(async () => (await ask(access, `/api/v1/runs/${run.id}/log`)).text === 'said\n', 'the script to have stopped its init');
    expect((await api(`/runs/${run.id}/cancel`, { reason: 'enough' })).status).toBe(200);
    expect(await finished(run.id)).toMatchObject({ outcome: 'cancelled', reason: 'cancelled: enough', attempt: 1 });
  });

  it('that is told to end, and whose sandboxes are ended by the same hand, puts its runs back', async () => {
    const worker = startWorker('stopped', 'stopped');
    await takes(worker);
    const id = await submit('stopped', `echo said; until [ -e ${temp.path}/go ]; do sleep 0.02; done; kill -9 $PPID; sleep 300`);
    await until(async () => (await ask(access, `/api/v1/runs/${id}/log`)).text === 'said\n', 'the script to run');
    worker.child.kill('SIGTERM');
    await until(() => worker.stderr.includes('drains'), 'the worker to drain');
    writeFileSync(`${temp.path}/go`, '');
    expect((await worker.ended).code).toBe(0);
    const run = (await api(`/runs/${id}`)).json;
    expect(run).toMatchObject({ state: 'waiting', attempts: [{ outcome: 'interrupted' }] });
    expect((await api(`/runs/${id}/cancel`, {})).status).toBe(200);
  });

  it('without a file descriptor to spare fails a start, and lives', async () => {
    const slots = new URL('../../dist/workers/sandbox/slots.js', import.meta.url).href;
    const program = `
      const { openSync } = await import('node:fs');
      const { createSlots } = await import('${slots}');
      try { for (;;) openSync('/dev/null'); } catch {}
      const told = await createSlots().take().then(() => 'taken', (cause) => cause.message);
      setTimeout(() => console.log(told), 50);`;
    const args = ['-c', 'ulimit -n 64; exec "$0" "$@"', process.execPath, '--input-type=module', '-e', program];
    expect(execFileSync('/bin/sh', args, { encoding: 'utf8' })).toMatch(/^expected to start a process for a run/);
  });

  it('refuses a run of which an input is no more in the store', async () => {
    const content = Buffer.from('what it needs');
    const sha256 = sha256Of(content);
    expect((await ask(access, '/api/v1/inputs', { method: 'PUT', body: content })).status).toBe(201);
    const { id } = (await api('/runs', { platform: 'unfed', script: 'cat a', inputs: [{ path: 'a', sha256, mode: 0o644 }] })).json;
    const [blob = ''] = readdirSync(`${temp.path}/store/blobs`, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith(sha256),
    );
    rmSync(`${temp.path}/store/blobs/${blob}`);
    const worker = startWorker('unfed', '--once', 'unfed');
    expect(await finished(id)).toMatchObject({ outcome: 'refused', reason: expect.stringMatching(/^input-missing: .*a/) });
    expect((await worker.ended).code).toBe(0);
  });

  it('with --idle-exit ends when there has been nothing to do for so long', async () => {
    const id = await submit('seldom', 'true');
    expect((await startWorker('idler', '--idle-exit=300ms', 'seldom').ended).code).toBe(0);
    expect(await finished(id)).toMatchObject({ outcome: 'succeeded', worker: 'idler' });
  });

  it('refuses a name that another one has on this machine', async () => {
    const twin = await startWorker('one', 'debian-12').ended;
    expect([twin.code, twin.stderr]).toEqual([
      78,
      expect.stringMatching(/^builder worker: expected a worker name that is not in use.*\n$/),
    ]);
  });
});

describe('a second server', () => {
  it('answers the same, and either can go', async () => {
    const second = startProgram(['server'], { env });
    const url = await urlOf(second);
    const id = await submit('debian-12', 'echo seen from both');
    await finished(id);
    expect((await ask({ url, token: TOKEN }, `/api/v1/runs/${id}/log`)).text).toBe('seen from both\n');
    second.child.kill('SIGTERM');
    expect((await second.ended).code).toBe(0);
  });
});

describe('bad configuration', () => {
  it('is one error that names every bad variable', async () => {
    const bad = {
      BUILDER_REDIS_URL: 'here',
      BUILDER_STORE: 'there',
      BUILDER_PORT: '99999',
      BUILDER_BOOTSTRAP_TOKEN: 'short',
      BUILDER_LOG_LEVEL: 'loud',
    };
    const refused = await startProgram(['server'], { env: bad }).ended;
    expect(refused.code).toBe(78);
    expect(refused.stderr.trim().split('\n')).toHaveLength(1);
    for (const name of Object.keys(bad)) expect(refused.stderr).toContain(name);
    expect(refused.stderr).not.toContain('short');
  });

  it.each<[string, string[], Record<string, string>, number]>([
    ['no store', ['worker', '--platform', 'p'], {}, 78],
    ['a store that cannot be written', ['server'], { BUILDER_STORE: 'file:///etc/passwd/store' }, 78],
    ['a store where no folder can be', ['server'], { BUILDER_STORE: 'file:///proc/store' }, 78],
    ['no platform', ['worker'], {}, 2],
    ['a platform that is no name', ['worker', '--platform', 'A B'], {}, 2],
    ['an unknown flag', ['server', '--frob'], {}, 2],
    ['a sandbox that there is not', ['worker', '--platform', 'p', '--sandbox', 'vm'], {}, 2],
    ['a token file that is not there', ['server'], { BUILDER_BOOTSTRAP_TOKEN_FILE: '/nowhere' }, 78],
  ])('%s is told in one line', async (_, args, given, code) => {
    const base =
      given.BUILDER_STORE === undefined && args[0] === 'server'
        ? env
        : { BUILDER_REDIS_URL: redis.url, BUILDER_WORK_DIR: `${temp.path}/work` };
    const refused = await startProgram(args, { env: { ...base, ...given } }).ended;
    expect([refused.code, refused.stderr.trim().split('\n').length]).toEqual([code, 1]);
  });

  it('of a Redis that is away ends with 69, and shows no password', async () => {
    const refused = await startProgram(['server'], { env: { ...env, BUILDER_REDIS_URL: 'redis://:secret@127.0.0.1:1' } }).ended;
    expect([refused.code, refused.stderr]).toEqual([
      69,
      expect.stringMatching(/^builder server: expected Redis at redis:\/\/:\*\*\*@127\.0\.0\.1:1.*ECONNREFUSED.*\n$/),
    ]);
  });
});
