import { readFileSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Run } from '../../src/job/run.ts';
import { bullActiveKey, bullLockKey, keys, runQueue } from '../../src/redis/keys.ts';
import { type Pool, processesOf, runFolders, startPool } from '../support/pool.ts';
import type { Program } from '../support/system.ts';
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

const SCRIPT = `echo attempt $BUILDER_ATTEMPT begins
echo data of attempt $BUILDER_ATTEMPT > out.txt
if [ $BUILDER_ATTEMPT = 1 ] && [ "$LONG" = yes ]; then sleep 600; fi
echo attempt $BUILDER_ATTEMPT ends
`;
const logOf = (attempt: number): string =>
  `${attempt === 1 ? '' : `builder: attempt ${attempt} on worker rescuer\n`}attempt ${attempt} begins\nattempt ${attempt} ends\n`;

const STEPS = [
  'before the claim',
  'while the script runs',
  'while artifacts are stored',
  'between the result and its acknowledgement',
] as const;
type Step = (typeof STEPS)[number];
const SIGNALS = ['SIGKILL', 'SIGSTOP'] as const;

interface Case {
  step: Step;
  signal: (typeof SIGNALS)[number];
  platform: string;
  id: string;
  victim: Program;
  link: string;
  /** From the signal to the end of the run. */
  tookMs: number;
  run: Run;
}

describe('a worker that is', () => {
  const cases: Case[] = [];

  beforeAll(async () => {
    const all = SIGNALS.flatMap((signal) => STEPS.map((step) => ({ signal, step })));
    await Promise.all(all.map(async ({ signal, step }, index) => void cases.push(await hit({ signal, step, platform: `p${index}` }))));
    await pool.startWorker('rescuer', { platforms: cases.map(({ platform }) => platform), concurrency: 8 });
    await Promise.all(
      cases.map(async (one) => {
        const beganAtMs = performance.now();
        one.run = await pool.finished(one.id);
        one.tookMs = performance.now() - beganAtMs;
      }),
    );
    for (const { victim, signal } of cases) if (signal === 'SIGSTOP') victim.child.kill('SIGCONT');
  }, 120_000);

  async function hit({ signal, step, platform }: Pick<Case, 'signal' | 'step' | 'platform'>): Promise<Case> {
    const link = `${pool.folder.path}/store-${platform}`;
    symlinkSync(pool.storePath, link);
    const slow = step === 'before the claim' || step.startsWith('between');
    const env = { BUILDER_STORE: `file://${link}` };
    const victim = await pool.startWorker(platform, { proxy: await proxyOf(slow ? 150 : 0), platforms: [platform], env });
    const long = step === 'while the script runs' || step === 'while artifacts are stored';
    const id = await pool.submit(SCRIPT, { platform, env: { LONG: long ? 'yes' : 'no' } });
    const queue = runQueue(platform);
    const started = () => until(() => processesOf(`BUILDER_RUN_ID=${id}`).length > 0, 'the script to run');
    switch (step) {
      case 'before the claim':
        await until(async () => (await pool.client.exists(bullLockKey(queue, id))) === 1, 'the worker to take the job');
        expect(await pool.client.hget(keys.run(id), 'n')).toBeNull();
        break;
      case 'while the script runs':
        await until(async () => (await pool.log(id)).includes('begins'), 'the first line');
        break;
      case 'while artifacts are stored':
        await started();
        await until(async () => (await pool.log(id)).includes('begins'), 'the first line');
        renameSync(link, `${link}-away`);
        writeFileSync(link, 'no folder');
        // The script itself shall end: only its long sleep is cut short.
        for (const pid of processesOf(`BUILDER_RUN_ID=${id}`)) if (commandOf(pid).startsWith('sleep')) process.kill(pid, 'SIGTERM');
        await until(() => victim.stderr.includes('refused; trying again'), 'the worker to store');
        break;
      case 'between the result and its acknowledgement':
        await until(async () => (await pool.client.hexists(keys.run(id), 'result')) === 1, 'the result');
        expect(await pool.client.lrange(bullActiveKey(queue), 0, -1)).toEqual([id]);
        break;
    }
    victim.child.kill(signal);
    if (step === 'while artifacts are stored') {
      unlinkSync(link);
      renameSync(`${link}-away`, link);
    }
    return { step, signal, platform, id, victim, link, tookMs: 0, run: null as unknown as Run };
  }

  const named = (signal: string, step: Step): Case => cases.find((one) => one.signal === signal && one.step === step) as Case;

  for (const signal of SIGNALS) {
    const done = signal === 'SIGKILL' ? 'killed' : 'suspended past its lock';
    it.each(STEPS)(`${done} %s: the run ends once, with one whole log and its own artifacts`, async (step) => {
      const { id, victim, platform, tookMs } = named(signal, step);
      // Before the claim nothing had begun; after the result nothing is done again.
      const attempts = step.startsWith('while') ? ['superseded', 'succeeded'] : ['succeeded'];
      if (signal === 'SIGSTOP') {
        await until(async () => (await pool.client.llen(bullActiveKey(runQueue(platform)))) === 0, 'nothing to be active');
        await until(() => runFolders(pool, platform).length === 0 || victim.child.exitCode !== null, 'the worker to clear up');
        expect(victim.child.exitCode).toBeNull();
      }
      const run = await pool.run(id);
      expect(run).toMatchObject({ state: 'finished', outcome: 'succeeded', attempt: attempts.length, artifactCount: 1 });
      expect(run.attempts.map(({ outcome }) => outcome)).toEqual(attempts);
      const text = step === 'before the claim' ? logOf(1) : logOf(attempts.length);
      expect(await pool.log(id)).toBe(text);
      expect(run.log).toMatchObject({ lines: text.split('\n').length - 1, missing: 0 });
      expect((await pool.api(`/runs/${id}/artifacts/out.txt`)).text).toBe(`data of attempt ${attempts.length}\n`);
      expect(tookMs).toBeLessThan(30_000);
      if (attempts.length === 2) expect(await pool.log(id, '?attempt=1')).toContain('attempt 1 begins\n');
      expect(processesOf(`BUILDER_RUN_ID=${id}`).filter(() => signal === 'SIGSTOP')).toEqual([]);
    });
  }
});

describe('a worker that is suspended', () => {
  it('while its run is cancelled: the run ends within about one lock duration, and says that the end is not confirmed', async () => {
    const victim = await pool.startWorker('asleep', { platforms: ['asleep'] });
    const id = await pool.submit('echo begun; while true; do sleep 0.1; echo more; done', { platform: 'asleep' });
    await until(async () => (await pool.log(id)).includes('begun'), 'the first line');
    victim.child.kill('SIGSTOP');
    const beganAtMs = performance.now();
    expect((await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: { reason: 'enough' } })).json.cancelRequestedAt).not.toBeNull();
    const run = await pool.finished(id);
    expect(performance.now() - beganAtMs).toBeLessThan(15_000);
    expect(run).toMatchObject({ outcome: 'cancelled', reason: expect.stringMatching(/^cancelled: enough; .*not confirmed$/) });
    victim.child.kill('SIGCONT');
    await until(() => processesOf(`BUILDER_RUN_ID=${id}`).length === 0, 'the script to be ended');
    await until(() => runFolders(pool, 'asleep').length === 0, 'the worker to clear up');
    // What it said behind the end that counts is no part of the log.
    expect(await pool.run(id)).toMatchObject({ outcome: 'cancelled', log: run.log });
    expect((await pool.log(id)).split('\n')).toHaveLength(run.log.lines + 1);
  });
});

describe('a worker that gets SIGTERM', () => {
  it('while it waits for runs ends at once', async () => {
    const worker = await pool.startWorker('idle', { platforms: ['idle'] });
    await until(() => blockedClients(), 'it to block');
    const beganAtMs = performance.now();
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
    expect(performance.now() - beganAtMs).toBeLessThan(3_000);
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
    const beganAtMs = performance.now();
    const run = await pool.finished(id);
    expect(performance.now() - beganAtMs).toBeLessThan(8_000);
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
    const beganAtMs = performance.now();
    worker.child.kill('SIGTERM');
    worker.child.kill('SIGINT');
    expect((await worker.ended).code).toBe(0);
    expect(performance.now() - beganAtMs).toBeLessThan(25_000);
    expect(processesOf(`BUILDER_RUN_ID=${id}`)).toEqual([]);
    expect((await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: {} })).status).toBe(200);
  });
});

async function blockedClients(): Promise<boolean> {
  return Number(/blocked_clients:(\d+)/.exec(await pool.client.info('clients'))?.[1]) > 0;
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
