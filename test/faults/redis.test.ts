import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from '@jest/globals';
import { bullLockKey, runQueue } from '../../src/redis/keys.ts';
import { type Pool, processesOf, startPool } from '../support/pool.ts';
import type { Program } from '../support/system.ts';
import { until } from '../support/until.ts';

let pool: Pool;

afterEach(() => pool.stop());

const COUNTED = 120;
/** About 12 s of output, a line every tenth of a second. */
const COUNTING = `n=0; while [ $n -lt ${COUNTED} ]; do n=$((n+1)); echo line $n; sleep 0.1; done`;
const COUNTED_TEXT = Array.from({ length: COUNTED }, (_, n) => `line ${n + 1}\n`).join('');

const said = (id: string, text: string) => until(async () => (await pool.log(id).catch(() => '')).includes(text), `the log to say ${text}`);
const passed = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The run has gone on as if nothing had happened, and its log is whole, in order, once. */
async function expectUnharmed(id: string): Promise<void> {
  const run = await pool.finished(id);
  expect(run).toMatchObject({ outcome: 'succeeded', attempt: 1, log: { lines: COUNTED, missing: 0 } });
  expect(run.attempts).toHaveLength(1);
  expect(await pool.log(id)).toBe(COUNTED_TEXT);
  expect(run.log.sha256).toBe(createHash('sha256').update(COUNTED_TEXT).digest('hex'));
}

/** The worker holds what it cannot give to Redis, and nothing there says that it lives. */
async function lockGoneAndScriptOver(id: string): Promise<void> {
  await until(async () => (await pool.client.exists(bullLockKey(runQueue('test'), id))) === 0, 'the lock to run out');
  await until(() => processesOf(`BUILDER_RUN_ID=${id}`).length === 0, 'the script to end');
  await until(() => pool.workers.get('one')?.stderr.includes('log not published'), 'the worker to say so');
}

async function expectTakesRuns(withinMs = 20_000): Promise<void> {
  const id = await until(() => pool.submit('echo again').catch(() => ''), 'a run to be accepted');
  expect(await pool.finished(id, withinMs)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
}

async function both(mode: Parameters<Pool['workersProxy']['set']>[0]): Promise<void> {
  await Promise.all([pool.workersProxy.set(mode), pool.serversProxy.set(mode)]);
}

describe('while a script runs and talks, Redis', () => {
  it('refuses connections for five seconds: the script runs on, its log arrives whole', async () => {
    pool = await startPool();
    const id = await pool.submit(COUNTING);
    await said(id, 'line 5');
    await both('refuse');
    await passed(5_000);
    await both('pass');
    await expectUnharmed(id);
    await expectTakesRuns();
  });

  it('is behind a network that swallows packets for fifteen seconds: workers take runs again without a restart', async () => {
    pool = await startPool({ workers: ['one', 'two'] });
    const id = await pool.submit(`${COUNTING}; sleep 15`);
    await said(id, 'line 5');
    await both('swallow');
    expect((await pool.api('/info')).status).toBe(503);
    await passed(15_000);
    await both('pass');
    await expectTakesRuns();
    await expectUnharmed(id);
  });

  it('is killed and started again: the log arrives whole', async () => {
    pool = await startPool();
    const id = await pool.submit(COUNTING);
    await said(id, 'line 20');
    await pool.redis.kill();
    await passed(1_000);
    await pool.redis.start();
    await expectUnharmed(id);
    await expectTakesRuns();
  });

  it('comes back empty: what runs goes on, is listed again, and is recorded; the server says what is lost', async () => {
    pool = await startPool();
    const server = await pool.startServer();
    const id = await pool.submit(`${COUNTING}; echo kept > kept.txt; sleep 3`);
    await said(id, 'line 20');
    await pool.client.flushall();
    await pool.redis.kill();
    await pool.redis.start();
    await until(async () => (await pool.run(id)).state === 'running', 'the run to be known again');
    expect((await pool.run(id)).attempts).toMatchObject([{ number: 1, worker: 'one' }]);
    await until(() => server.program.stderr.includes('came back without its data'), 'the server to say so');
    await expectUnharmed(id);
    expect((await pool.api(`/runs/${id}/artifacts`)).json.artifacts).toMatchObject([{ path: 'kept.txt', bytes: 5 }]);
    await expectTakesRuns();
  });

  it('comes back some seconds older: what runs goes on, what had ended since runs again, and the server says what is lost', async () => {
    pool = await startPool({ workers: ['one', 'two'] });
    const server = await pool.startServer();
    const id = await pool.submit(COUNTING);
    await said(id, 'line 10');
    const go = `${pool.folder.path}/go`;
    const short = await pool.submit('echo begun; until [ -e "$GO" ]; do sleep 0.05; done; echo kept > kept.txt', { env: { GO: go } });
    await said(short, 'begun');
    pool.redis.remember();
    writeFileSync(go, '');
    expect(await pool.finished(short)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
    const gone = await pool.submit('echo never known');
    await pool.finished(gone);
    await said(id, 'line 30');
    await pool.redis.kill();
    await pool.redis.startOlder();
    await until(() => server.program.stderr.includes('came back older'), 'the server to say so');
    await expectUnharmed(id);
    expect(await pool.finished(short)).toMatchObject({ outcome: 'succeeded', artifactCount: 1 });
    expect(await pool.log(short)).toContain('begun\n');
    expect((await pool.api(`/runs/${gone}`)).status).toBe(404);
    await expectTakesRuns();
  });

  it('is emptied just before the script ends: the run is recorded all the same', async () => {
    pool = await startPool();
    const id = await pool.submit('echo begun; sleep 2; echo done');
    await said(id, 'begun');
    await pool.client.flushall();
    expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 1, log: { lines: 2 } });
    expect(await pool.log(id)).toBe('begun\ndone\n');
  });

  it('is a read-only replica for a while: nothing is lost, nothing runs twice', async () => {
    pool = await startPool();
    const id = await pool.submit(COUNTING);
    await said(id, 'line 5');
    await pool.client.replicaof('127.0.0.1', '1');
    const refused = await pool.api('/runs', { method: 'POST', body: { platform: 'test', script: 'true' } });
    expect([refused.status, refused.json.type]).toEqual([503, expect.stringContaining('redis-unavailable')]);
    await lockGoneAndScriptOver(id);
    await pool.client.replicaof('NO', 'ONE');
    await expectUnharmed(id);
    await expectTakesRuns();
  });

  it('has no memory left for a while: the run ends well once it has some', async () => {
    pool = await startPool();
    const id = await pool.submit(COUNTING);
    await said(id, 'line 5');
    await pool.client.config('SET', 'maxmemory', '1');
    const refused = await pool.api('/runs', { method: 'POST', body: { platform: 'test', script: 'true' } });
    expect([refused.status, refused.json.type]).toEqual([503, expect.stringContaining('redis-unavailable')]);
    await lockGoneAndScriptOver(id);
    await pool.client.config('SET', 'maxmemory', '0');
    await expectUnharmed(id);
    await expectTakesRuns();
  });
});

describe('while nothing runs, Redis', () => {
  it.each(['kill', 'swallow'] as const)('is gone for good (%s): a worker ends on its first SIGTERM', async (fault) => {
    pool = await startPool();
    await expectTakesRuns();
    const { child, ended } = pool.workers.get('one') as Program;
    if (fault === 'kill') await pool.redis.kill();
    else await pool.workersProxy.set('swallow');
    await until(async () => (await pool.api('/workers')).status === 503 || fault === 'swallow', 'the fault to be felt');
    child.kill('SIGTERM');
    await ended;
    expect(child.exitCode).toBe(0);
  });
});
