/** The wall clock of one program jumps, as when somebody sets it or a time server does; every other clock is right. */
import { existsSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Run } from '../../src/job/run.ts';
import { bullLockKey, runQueue } from '../../src/redis/keys.ts';
import { type Clock, clockOf, sweepClocks } from '../support/clocks.ts';
import { ask } from '../support/http.ts';
import { type Pool, startPool } from '../support/pool.ts';
import { REDIS_PROGRAM } from '../support/redis.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const HOUR_MS = 3_600_000;
const JUMPS = { 'a day forward': 24 * HOUR_MS, 'two hours back': -2 * HOUR_MS };
type Jump = keyof typeof JUMPS;
const SUBJECTS = ['a worker', 'a server', 'Redis'] as const;
type Subject = (typeof SUBJECTS)[number];

const folder: TempFolder = tempFolder();
// Decided before the tests are told, because a test that cannot run must be shown as skipped.
const programs = { 'a worker': process.execPath, 'a server': process.execPath, Redis: REDIS_PROGRAM };
const clocks = SUBJECTS.flatMap((subject) =>
  Object.keys(JUMPS).map(
    (jump, index) => [subject, jump as Jump, clockOf(programs[subject], `${folder.path}/${subject}-${index}`)] as const,
  ),
);

afterAll(async () => {
  for (const scene of scenes.values()) await (await scene.catch(() => null))?.pool.stop();
  sweepClocks();
  folder.remove();
});

/** Twenty seconds of output: longer than it takes to take a worker for dead and its run over. */
const COUNTED = 200;
const COUNTING = `n=0; while [ $n -lt ${COUNTED} ]; do n=$((n+1)); echo line $n; sleep 0.1; done`;
const COUNTED_TEXT = Array.from({ length: COUNTED }, (_, n) => `line ${n + 1}\n`).join('');
/** Fails at the first attempt, once a file is there. */
const FAILS_ONCE = '[ $BUILDER_ATTEMPT = 2 ] && exit 0; : > "$GO.ready"; until [ -e "$GO" ]; do sleep 0.05; done; exit 1';

/** What a jump meets: everything begins before it, on the worker `one`; a second worker and a second server are there all the time. */
interface Scene {
  pool: Pool;
  counting: Run;
  followed: string;
  retried: Run;
  patient: Run;
  cancelled: Run;
  orphan: Run | null;
  ids: { before: string; after: string };
  session: number;
}

/** All at once, each in a pool of its own: most of their time is waiting. */
const scenes = new Map<Clock, Promise<Scene>>();

function sceneOf(clock: Clock): Promise<Scene> {
  for (const [subject, jump, its] of clocks) {
    if (its === null || scenes.has(its)) continue;
    const scene = play(subject, jump, its);
    scene.catch(() => undefined);
    scenes.set(its, scene);
  }
  return scenes.get(clock) as Promise<Scene>;
}

async function play(subject: Subject, jump: Jump, clock: Clock): Promise<Scene> {
  const of = (which: Subject) => (which === subject ? clock.env : {});
  const pool = await startPool({ workers: [], redis: of('Redis'), server: of('a server') });
  try {
    return await playIn(pool, { subject, jump, clock });
  } catch (cause) {
    await pool.stop();
    throw cause;
  }
}

async function playIn(pool: Pool, { subject, jump, clock }: { subject: Subject; jump: Jump; clock: Clock }): Promise<Scene> {
  await pool.startServer();
  await pool.startWorker('one', { concurrency: 8, env: subject === 'a worker' ? clock.env : {} });
  const go = `${pool.folder.path}/go`;
  const counting = await pool.submit(COUNTING, { timeoutMs: HOUR_MS, silenceMs: HOUR_MS });
  const followed = pool.log(counting, '?follow=1');
  const failing = (name: string, backoffMs: number) =>
    pool.submit(FAILS_ONCE, { env: { GO: `${go}-${name}` }, retries: 1, backoffMs, backoffMaxMs: backoffMs });
  const retried = await failing('soon', 3_000);
  const patient = await failing('late', HOUR_MS / 2);
  const cancelled = await pool.submit('sleep 600');
  for (const name of ['soon', 'late']) await until(() => existsSync(`${go}-${name}.ready`), 'the scripts to run');
  await pool.running(cancelled);
  // Only Redis's clock says when a lock has run out.
  const orphan = subject === 'Redis' ? await pool.submit('[ $BUILDER_ATTEMPT = 2 ] || sleep 600') : null;
  if (orphan !== null) await pool.running(orphan);
  await pool.startWorker('two');
  const cookie = await signIn(pool);
  const before = await submitOnce(pool);
  await until(async () => (await pool.log(counting)).includes('line 20'), 'the log to grow');
  clock.set(JUMPS[jump]);
  writeFileSync(`${go}-soon`, '');
  writeFileSync(`${go}-late`, '');
  // Until its worker has taken an expired lock again, a run that is cancelled counts as one of a silent worker.
  await until(() => pool.client.exists(bullLockKey(runQueue('test'), cancelled)), 'the run to be locked');
  await pool.api(`/runs/${cancelled}/cancel`, { method: 'POST', body: { reason: 'enough' } });
  const ended = {
    cancelled: await pool.finished(cancelled),
    retried: await pool.finished(retried),
    counting: await pool.finished(counting),
    followed: await followed,
    patient: await pool.run(patient),
  };
  pool.workers.get('one')?.child.kill('SIGKILL');
  return {
    pool,
    ...ended,
    orphan: orphan === null ? null : await pool.finished(orphan),
    ids: { before, after: await submitOnce(pool) },
    session: (await ask(pool.access, '/', { token: null, headers: { cookie } })).status,
  };
}

async function submitOnce(pool: Pool): Promise<string> {
  const headers = { 'idempotency-key': 'the same request' };
  return (await pool.api('/runs', { method: 'POST', body: { platform: 'test', script: 'true' }, headers })).json.id;
}

async function signIn(pool: Pool): Promise<string> {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const answer = await ask(pool.access, '/signin', { method: 'POST', token: null, headers, body: `token=${pool.access.token}` });
  return String(answer.headers['set-cookie']).split(';')[0] ?? '';
}

for (const [subject, jump, clock] of clocks) {
  (clock === null ? describe.skip : describe)(`the clock of ${subject} that jumps ${jump}`, () => {
    let scene: Scene;

    beforeAll(async () => {
      scene = await sceneOf(clock as Clock);
    }, 180_000);

    it('takes no run from its worker, and ends none', () => {
      expect(scene.counting).toMatchObject({ outcome: 'succeeded', attempt: 1, worker: 'one', log: { lines: COUNTED, missing: 0 } });
      expect(scene.counting.attempts).toHaveLength(1);
    });

    it('leaves the log that is followed whole, and its times going on', async () => {
      expect(scene.followed).toBe(COUNTED_TEXT);
      const { text } = await scene.pool.api(`/runs/${scene.counting.id}/log`, { headers: { accept: 'application/x-ndjson' } });
      const times = text.split('\n').flatMap((line) => [...line.matchAll(/"atMs":(\d+)/g)].map(([, atMs]) => Number(atMs)));
      expect(times).toHaveLength(COUNTED);
      expect(times).toEqual([...times].sort((a, b) => a - b));
      expect(times.at(-1)).toBeLessThan(HOUR_MS);
    });

    if (subject === 'Redis') {
      it('hides no worker that dies afterwards: its run is done by another', () => {
        expect(scene.orphan?.attempts).toMatchObject([
          { worker: 'one', outcome: 'superseded' },
          { worker: 'two', outcome: 'succeeded' },
        ]);
      });
    }

    it('delays no cancellation', () => {
      expect(scene.cancelled).toMatchObject({ outcome: 'cancelled', reason: 'cancelled: enough', attempt: 1 });
    });

    it('leaves a retry its time: one of seconds comes, one of half an hour waits', () => {
      expect(scene.retried).toMatchObject({ outcome: 'succeeded', attempt: 2 });
      expect(scene.patient).toMatchObject({ state: 'delayed', attempt: 1 });
    });

    // A key or a session that lives a day has lived it: by the one clock that it is reckoned by.
    if (subject === 'Redis' && jump === 'a day forward') return;

    it('makes no second run of a request that is sent again', () => {
      expect(scene.ids.after).toBe(scene.ids.before);
    });

    it('signs nobody out', () => expect(scene.session).toBe(200));
  });
}
