/** A server that is killed or suspended at each step of what it does, while another one goes on. */
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { commitScript, createScript, requestCancelScript } from '../../src/queue/record-scripts.ts';
import { BULL_PREFIX, keys, runQueue, TICK_QUEUE } from '../../src/redis/keys.ts';
import { type Answer, ask } from '../support/http.ts';
import { type Pool, startPool } from '../support/pool.ts';
import { until } from '../support/until.ts';

/** A script's name travels with each request once Redis knows the script: what is done once before teaches it. */
interface Step {
  name: string;
  side: 'before' | 'after';
  text: string;
  isDone?(pool: Pool): Promise<boolean>;
}

const count = (key: string) => async (pool: Pool) => Number(await pool.client.zcard(key));
const queued = async (pool: Pool): Promise<boolean> => (await pool.client.zcard(`${BULL_PREFIX}:${runQueue('test')}:prioritized`)) > 0;
const recorded = async (pool: Pool): Promise<boolean> => (await count(keys.openRuns('test'))(pool)) > 0;

const SUBMITTING: Step[] = [
  { name: 'as it writes the record', side: 'before', text: createScript.sha1 },
  { name: 'when the record is written', side: 'after', text: createScript.sha1, isDone: recorded },
  { name: 'as it queues the run', side: 'before', text: `${BULL_PREFIX}:${runQueue('test')}:pc` },
  { name: 'when the run is queued', side: 'after', text: `${BULL_PREFIX}:${runQueue('test')}:pc`, isDone: queued },
];

const CANCELLING: Step[] = [
  { name: 'as it asks for the end', side: 'before', text: requestCancelScript.sha1 },
  {
    name: 'when the end is asked for',
    side: 'after',
    text: requestCancelScript.sha1,
    isDone: async (pool) => (await count(keys.cancelling)(pool)) > 0,
  },
  { name: 'as it commits the end', side: 'before', text: commitScript.sha1 },
  {
    name: 'when the end is committed',
    side: 'after',
    text: commitScript.sha1,
    isDone: async (pool) => (await count(keys.openRuns('test'))(pool)) === 0,
  },
];

const TICKING: Step[] = [
  ...SUBMITTING,
  {
    name: 'as it tells BullMQ that the tick is done',
    side: 'before',
    text: `${BULL_PREFIX}:${TICK_QUEUE}:extra:once:`,
  },
];

const SIGNALS = ['SIGKILL', 'SIGSTOP'] as const;
const matrix = (steps: Step[]) => SIGNALS.flatMap((signal) => steps.map((step) => ({ ...step, signal })));

type Hit = Step & { signal: (typeof SIGNALS)[number] };

/** Brings the pool's server to the step by `act` and hits it there; then `after`, with another server; a suspended one wakes at the end. */
async function hit(step: Hit, act: (pool: Pool) => Promise<unknown>, after: (pool: Pool, url: string) => Promise<void>): Promise<void> {
  const pool = await startPool({ workers: [] });
  try {
    // Redis shall know every script, so that none is sent twice.
    const first = await pool.submit('true', { platform: 'other' });
    await pool.api(`/runs/${first}/cancel`, { method: 'POST', body: {} });
    const { child } = pool.server;
    let wake: () => void = () => undefined;
    const tripped = pool.serversProxy.trip({
      text: step.text,
      side: step.side,
      act: async () => {
        await until(async () => (await step.isDone?.(pool)) ?? true, 'Redis to have it');
        child.kill(step.signal);
        if (step.signal === 'SIGKILL') return 'drop';
        await new Promise<void>((resolve) => {
          wake = resolve;
          hitNow();
        });
        return 'pass';
      },
    });
    let hitNow: () => void = () => undefined;
    const suspended = new Promise<void>((resolve) => {
      hitNow = resolve;
    });
    const acting = act(pool).catch(() => undefined);
    await Promise.race([tripped, suspended]);
    const { url } = await pool.startServer();
    await after(pool, url);
    if (step.signal === 'SIGSTOP') {
      child.kill('SIGCONT');
      wake();
      await tripped;
      await acting;
      await after(pool, url);
    }
  } finally {
    await pool.stop();
  }
}

const asked = (pool: Pool, url: string, path: string, o: Parameters<typeof ask>[2]): Promise<Answer> =>
  ask({ url, token: pool.access.token }, `/api/v1${path}`, o);
const runsOf = (pool: Pool, url: string): Promise<{ id: string; outcome: string | null; attempt: number }[]> =>
  asked(pool, url, '/runs?platform=test', {}).then(({ json }) => json.runs);

/** Takes what waits, and says that all of it ended well. */
async function expectOneRun(pool: Pool, url: string, id?: string): Promise<void> {
  if (pool.workers.size === 0) await pool.startWorker('late');
  await until(async () => (await runsOf(pool, url))[0]?.outcome, 'the run to end');
  const runs = await runsOf(pool, url);
  expect(runs).toMatchObject([{ outcome: 'succeeded', attempt: 1 }]);
  if (id !== undefined) expect(runs[0]?.id).toBe(id);
  for (const key of [keys.openRuns('test'), keys.accepting]) await until(async () => (await pool.client.zcard(key)) === 0, `${key} empty`);
}

describe('a server that, while a run is submitted, gets', () => {
  it.each(matrix(SUBMITTING))('$signal $name: the same request to another server makes the one run', async (step) => {
    const request = { method: 'POST', body: { platform: 'test', script: 'true' }, headers: { 'idempotency-key': randomUUID() } };
    await hit(
      step,
      (pool) => pool.api('/runs', request),
      async (pool, url) => {
        const answer = await asked(pool, url, '/runs', request);
        expect(answer.status).toBe(201);
        await expectOneRun(pool, url, answer.json.id);
      },
    );
  });
});

describe('a server that, while a waiting run is cancelled, gets', () => {
  it.each(matrix(CANCELLING))('$signal $name: the same request to another server ends it, once', async (step) => {
    let id = '';
    await hit(
      step,
      async (pool) => {
        id = await pool.submit('true');
        return pool.api(`/runs/${id}/cancel`, { method: 'POST', body: { reason: 'enough' } });
      },
      async (pool, url) => {
        const { status } = await asked(pool, url, `/runs/${id}/cancel`, { method: 'POST', body: { reason: 'enough' } });
        expect([200, 409]).toContain(status);
        await until(async () => (await runsOf(pool, url))[0]?.outcome === 'cancelled', 'the run to end');
        expect(await runsOf(pool, url)).toMatchObject([{ id, outcome: 'cancelled', attempt: 0, reason: 'cancelled: enough' }]);
        await until(async () => (await pool.client.zcard(keys.cancelling)) === 0, 'nothing to be cancelled any more');
      },
    );
  });
});

describe('a server that, while a tick is due, gets', () => {
  it.each(matrix(TICKING))('$signal $name: the tick makes its one run', async (step) => {
    await hit(
      step,
      async (pool) => {
        const body = { platform: 'test', script: 'true', at: new Date(Date.now() + 500).toISOString() };
        expect((await pool.api('/jobs/once', { method: 'PUT', body })).status).toBe(201);
      },
      (pool, url) => expectOneRun(pool, url),
    );
  });
});
