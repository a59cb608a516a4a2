import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { bullJobKey, bullLockKey, bullWaitKey, runQueue } from '../../src/redis/keys.ts';
import { type Pool, processesOf, runFolders, startPool } from '../support/pool.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

let pool: Pool;
const proxies: TcpProxy[] = [];

beforeAll(async () => {
  pool = await startPool({ workers: [] });
});

afterAll(async () => {
  await pool.stop();
  for (const proxy of proxies) await proxy.stop();
});

/** A proxy of one worker alone; slow, so that a test can act between two of its steps. */
async function proxyOf(delayMs = 0): Promise<TcpProxy> {
  const proxy = await startTcpProxy(Number(new URL(pool.redis.tcpUrl).port));
  proxies.push(proxy);
  if (delayMs > 0) await proxy.set(delayMs);
  return proxy;
}

describe('a worker that is suspended', () => {
  /** Suspends a worker until a server has queued its run anew, wakes it, and lets the script end when its lock has lived on. */
  async function expectToGoOn(name: string, concurrency: number, suspendedMs = 0): Promise<void> {
    const victim = await pool.startWorker(name, { platforms: [name], concurrency });
    const go = `${pool.folder.path}/go-${name}`;
    const id = await pool.submit('echo begun; until [ -e "$GO" ]; do sleep 0.05; done; echo done', { platform: name, env: { GO: go } });
    await until(async () => (await pool.log(id)).includes('begun'), 'the first line');
    victim.child.kill('SIGSTOP');
    const untilMs = performance.now() + suspendedMs;
    await until(async () => (await pool.run(id)).state === 'waiting', 'the run to wait for another worker');
    await until(() => performance.now() > untilMs, 'it to be suspended for so long');
    victim.child.kill('SIGCONT');
    await until(async () => (await pool.run(id)).state === 'running', 'the worker to have it again');
    await renewed(name, id);
    writeFileSync(go, '');
    const run = await pool.finished(id);
    expect(run).toMatchObject({ outcome: 'succeeded', attempt: 1 });
    expect(run.attempts).toHaveLength(1);
    expect(await pool.log(id)).toBe('begun\ndone\n');
  }

  /** For longer than a lock lives. */
  async function renewed(platform: string, id: string): Promise<void> {
    const lock = bullLockKey(runQueue(platform), id);
    for (let renewal = 0; renewal < 6; renewal += 1) {
      await until(async () => (await pool.client.pttl(lock)) < limits.lockDurationMs - 1_000, 'the lock to age');
      await until(async () => (await pool.client.pttl(lock)) > limits.lockDurationMs - 1_000, 'the lock to be renewed');
    }
  }

  // With a slot free it would take the run a second time before it hears that it has lost it.
  it('and whose run no other has taken when it wakes: it has the run again, and the script goes on', () => expectToGoOn('alone', 1));

  it('and has a slot free when it wakes: it takes its own run from the queue, and the script goes on', () => expectToGoOn('roomy', 2));

  // It asks for its lock and for a job in the same moment, and has the job first.
  it('and has a slot free, and wakes as its lock is to be renewed: the script goes on', () => expectToGoOn('due', 2, 15_000));

  it('and whose run is gone from the queue when it wakes: it ends the script, the run begins anew, and nothing counts as cancelled', async () => {
    const victim = await pool.startWorker('late', { platforms: ['late'], concurrency: 1 });
    const script = 'echo begun; if [ $BUILDER_ATTEMPT = 1 ]; then sleep 600; fi; echo done';
    const id = await pool.submit(script, { platform: 'late' });
    await until(async () => (await pool.log(id)).includes('begun'), 'the first line');
    victim.child.kill('SIGSTOP');
    await until(async () => (await pool.run(id)).state === 'waiting', 'the run to wait for another worker');
    await pool.client.lrem(bullWaitKey(runQueue('late')), 0, id);
    await pool.client.del(bullJobKey(runQueue('late'), id));
    victim.child.kill('SIGCONT');
    const run = await pool.finished(id);
    expect(run).toMatchObject({ outcome: 'succeeded', attempt: 2 });
    expect(run.attempts).toMatchObject([{ outcome: 'superseded' }, { outcome: 'succeeded' }]);
    expect(await pool.log(id, '?attempt=1')).toContain('begun\n');
  });

  it('while its run is cancelled: the run ends within about one lock duration, and says that the end is not confirmed', async () => {
    const victim = await pool.startWorker('asleep', { platforms: ['asleep'] });
    const id = await pool.submit('echo begun; while true; do sleep 0.1; echo more; done', { platform: 'asleep' });
    await until(async () => (await pool.log(id)).includes('begun'), 'the first line');
    victim.child.kill('SIGSTOP');
    expect((await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: { reason: 'enough' } })).json.cancelRequestedAt).not.toBeNull();
    const run = await pool.finished(id);
    expect(run).toMatchObject({ outcome: 'cancelled', reason: expect.stringMatching(/^cancelled: enough; .*not confirmed$/) });
    victim.child.kill('SIGCONT');
    await until(() => processesOf(`BUILDER_RUN_ID=${id}`).length === 0, 'the script to be ended');
    await until(() => runFolders(pool, 'asleep').length === 0, 'the worker to clear up');
    // What it said behind the end that counts is no part of the log.
    expect(await pool.run(id)).toMatchObject({ outcome: 'cancelled', log: run.log });
    expect((await pool.log(id)).split('\n')).toHaveLength(run.log.lines + 1);
  });
});

describe('a worker that is cut off', () => {
  it('while its run is cancelled and its script ends: the run shows the one end that counts, and nothing of the other', async () => {
    const proxy = await proxyOf();
    await pool.startWorker('apart', { platforms: ['apart'], proxy, concurrency: 1 });
    const go = `${pool.folder.path}/go-apart`;
    const script = 'echo begun; echo data > file.txt; until [ -e "$GO" ]; do sleep 0.05; done; echo ended';
    const id = await pool.submit(script, { platform: 'apart', env: { GO: go } });
    await until(async () => (await pool.log(id)).includes('begun'), 'the first line');
    await proxy.set('refuse');
    await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: {} });
    const ended = await pool.finished(id);
    expect(ended).toMatchObject({ outcome: 'cancelled', artifactCount: 0, attempts: [{ outcome: 'superseded' }] });
    writeFileSync(go, '');
    await until(() => processesOf(`BUILDER_RUN_ID=${id}`).length === 0, 'the script to end');
    await proxy.set('pass');
    await until(() => runFolders(pool, 'apart').length === 0, 'the worker to clear up');
    await until(() => pool.told('another result counts').some((line) => line.includes(id)), 'the worker to hear of it');
    expect(await pool.run(id)).toEqual(ended);
    expect((await pool.api(`/runs/${id}/artifacts`)).json.artifacts).toEqual([]);
    expect((await pool.api(`/runs/${id}/artifacts?attempt=1`)).json.artifacts).toMatchObject([{ path: 'file.txt' }]);
  });
});

describe('a run during which its workers die', () => {
  it('is given up after three of them, and shows each', async () => {
    const id = await pool.submit('echo begun; sleep 600', { platform: 'deadly' });
    const names = ['first', 'second', 'third'];
    for (const [index, name] of names.entries()) {
      const victim = await pool.startWorker(name, { platforms: ['deadly'] });
      const begun = async () => {
        const run = await pool.run(id);
        return run.state === 'running' && run.attempt === index + 1;
      };
      await until(begun, `attempt ${index + 1}`, 60_000);
      victim.child.kill('SIGKILL');
      await victim.ended;
    }
    const survivor = await pool.startWorker('survivor', { platforms: ['deadly'] });
    const run = await pool.finished(id, 60_000);
    expect(run).toMatchObject({ outcome: 'lost', reason: 'worker-died: 3 workers died while running it (first, second, third)' });
    expect(run.attempts.map(({ worker, outcome }) => [worker, outcome])).toEqual(names.map((name) => [name, 'superseded']));
    expect(survivor.child.exitCode).toBeNull();
  }, 240_000);
});

describe('a worker that gets SIGTERM', () => {
  it('while it waits for runs ends at once', async () => {
    const worker = await pool.startWorker('idle', { platforms: ['idle'] });
    await until(() => blockedClients(), 'it to block');
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
  });

  it('at the moment of a claim loses nothing: the run ends, or another worker has it at once', async () => {
    const worker = await pool.startWorker('claiming', { platforms: ['claiming'], proxy: await proxyOf(100) });
    const id = await pool.submit('echo done', { platform: 'claiming' });
    await until(async () => (await pool.client.exists(bullLockKey(runQueue('claiming'), id))) === 1, 'the worker to take the job');
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
    await pool.startWorker('next', { platforms: ['claiming'] });
    expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
    expect(await pool.log(id)).toBe('done\n');
  });

  it('twice puts its run back unharmed, and another worker takes it within seconds', async () => {
    const worker = await pool.startWorker('forced', { platforms: ['forced'], sandbox: 'auto' });
    const id = await pool.submit('echo begun; if [ $BUILDER_ATTEMPT = 1 ]; then sleep 600; fi', { platform: 'forced' });
    await until(async () => (await pool.log(id)).includes('begun'), 'the first line');
    await pool.startWorker('heir', { platforms: ['forced'] });
    worker.child.kill('SIGTERM');
    worker.child.kill('SIGINT');
    const run = await pool.finished(id);
    expect(run.attempts).toMatchObject([
      { worker: 'forced', outcome: 'interrupted' },
      { worker: 'heir', outcome: 'succeeded' },
    ]);
    expect((await worker.ended).code).toBe(0);
    expect(processesOf(`BUILDER_RUN_ID=${id}`)).toEqual([]);
  });

  it('while Redis is away ends after the second signal within seconds', async () => {
    const proxy = await proxyOf();
    const worker = await pool.startWorker('cut-off', { platforms: ['cut-off'], proxy });
    const id = await pool.submit('echo begun; sleep 600', { platform: 'cut-off' });
    await until(async () => (await pool.log(id)).includes('begun'), 'the first line');
    await proxy.set('refuse');
    worker.child.kill('SIGTERM');
    worker.child.kill('SIGINT');
    expect((await worker.ended).code).toBe(0);
    expect(processesOf(`BUILDER_RUN_ID=${id}`)).toEqual([]);
    expect((await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: {} })).status).toBe(200);
  });
});

async function blockedClients(): Promise<boolean> {
  return Number(/blocked_clients:(\d+)/.exec(await pool.client.info('clients'))?.[1]) > 0;
}
