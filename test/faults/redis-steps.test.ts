/** Redis that is killed, or suspended for longer than a lock lives, at each step of a run. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { claimScript, commitScript, createScript } from '../../src/queue/record-scripts.ts';
import { BULL_PREFIX, bullActiveKey, bullLockKey, keys, runQueue } from '../../src/redis/keys.ts';
import { type Pool, startPool } from '../support/pool.ts';
import { until } from '../support/until.ts';

const SCRIPT = 'for n in $(seq 1 40); do echo line $n; sleep 0.05; done; echo kept > kept.txt';
const TEXT = Array.from({ length: 40 }, (_, n) => `line ${n + 1}\n`).join('');
const QUEUE = runQueue('test');

interface Step {
  name: string;
  /** Whose request it is. */
  of: 'server' | 'worker';
  side: 'before' | 'after';
  text: string;
  isDone?(pool: Pool, id: string): Promise<boolean>;
}

const bullKey = (name: string): string => `${BULL_PREFIX}:${QUEUE}:${name}`;
const newest = async (pool: Pool): Promise<string> => (await pool.client.zrevrange(keys.runs, 0, 0))[0] ?? '';

const STEPS: Step[] = [
  { name: 'as a server writes the record', of: 'server', side: 'before', text: createScript.sha1 },
  {
    name: 'when the record is written',
    of: 'server',
    side: 'after',
    text: createScript.sha1,
    isDone: async (pool) => (await pool.client.zcard(keys.accepting)) > 0,
  },
  {
    name: 'when the run is queued',
    of: 'server',
    side: 'after',
    text: bullKey('pc'),
    isDone: async (pool) => (await pool.client.exists(bullKey(await newest(pool)))) === 1,
  },
  {
    name: 'when a worker has taken the job',
    of: 'worker',
    side: 'after',
    text: bullKey('stalled'),
    isDone: async (pool, id) => (await pool.client.exists(bullLockKey(QUEUE, id))) === 1,
  },
  {
    name: 'when its attempt is open',
    of: 'worker',
    side: 'after',
    text: claimScript.sha1,
    isDone: async (pool, id) => (await pool.client.hget(keys.run(id), 'n')) === '1',
  },
  { name: 'as it sends a line', of: 'worker', side: 'before', text: '"text":"line 3"' },
  { name: 'as it commits the result', of: 'worker', side: 'before', text: commitScript.sha1 },
  {
    name: 'when the result is committed',
    of: 'worker',
    side: 'after',
    text: commitScript.sha1,
    isDone: async (pool, id) => (await pool.client.hexists(keys.run(id), 'result')) === 1,
  },
  {
    name: 'when BullMQ knows',
    of: 'worker',
    side: 'after',
    text: bullKey('completed'),
    isDone: async (pool) => (await pool.client.llen(bullActiveKey(QUEUE))) === 0,
  },
];

async function kill(pool: Pool): Promise<'drop'> {
  await pool.redis.kill();
  await pool.redis.start();
  return 'drop';
}

async function suspend(pool: Pool): Promise<void> {
  process.kill(pool.redis.pid, 'SIGSTOP');
  // The fault is a duration: locks run out in it.
  await new Promise((resolve) => setTimeout(resolve, limits.lockDurationMs + 1_500));
  process.kill(pool.redis.pid, 'SIGCONT');
}

const FAULTS = {
  killed: kill,
  suspended: (pool: Pool) => suspend(pool).then(() => 'pass' as const),
  'suspended, with a connection lost,': (pool: Pool) => suspend(pool).then(() => 'drop' as const),
};

const CASES = (Object.keys(FAULTS) as (keyof typeof FAULTS)[]).flatMap((fault) => STEPS.map((step) => ({ fault, ...step })));

describe('Redis that is', () => {
  it.each(CASES)(
    '$fault $name: the run ends once, at its first attempt, with all it said',
    async ({ fault, of, side, text, isDone }) => {
      const pool = await startPool({ workers: ['one', 'two'] });
      try {
        const headers = { 'idempotency-key': 'once' };
        // Redis shall know every script, so that none is sent twice.
        await pool.finished(await pool.submit('echo first'));
        const proxy = of === 'server' ? pool.serversProxy : pool.workersProxy;
        let id = '';
        const tripped = proxy.trip({
          text,
          side,
          act: async () => {
            if (isDone !== undefined) await until(() => isDone(pool, id), 'Redis to have it');
            await FAULTS[fault](pool);
            return 'drop';
          },
        });
        const submit = () => pool.api('/runs', { method: 'POST', body: { platform: 'test', script: SCRIPT }, headers });
        id = await until(async () => (await submit().catch(() => null))?.json?.id as string | undefined, 'the run to be accepted');
        await tripped;
        const run = await pool.finished(id, 50_000);
        expect(run).toMatchObject({ outcome: 'succeeded', attempt: 1, artifactCount: 1, log: { lines: 40, missing: 0 } });
        expect(run.attempts).toHaveLength(1);
        expect(await pool.log(id)).toBe(TEXT);
        expect(run.log.sha256).toBe(createHash('sha256').update(TEXT).digest('hex'));
        const { runs } = (await pool.api('/runs?platform=test')).json;
        expect(runs).toHaveLength(2);
        await until(async () => (await pool.client.llen(bullActiveKey(QUEUE))) === 0, 'nothing to be active');
        expect(pool.told('the clock of Redis jumped')).toEqual([]);
      } finally {
        await pool.stop();
      }
    },
    90_000,
  );
});
