import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Job } from '../../src/job/api.ts';
import type { RunWhy } from '../../src/job/run-why.ts';
import { type System, startSystem } from '../support/system.ts';
import { until } from '../support/until.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem('--concurrency', '1', '--platform', 'debian-12');
});

afterAll(() => system.stop());

const file = (name: string, content: string): string => {
  const path = `${system.folder.path}/${name}`;
  writeFileSync(path, content);
  return path;
};
const id = async (...args: string[]): Promise<string> => (await system.builder(...args)).stdout.trim();
const answerOf = async <T>(path: string): Promise<T> => {
  const answer = await fetch(`${system.url}/api/v1/${path}`, { headers: { authorization: `Bearer ${system.token}` } });
  return (await answer.json()) as T;
};
const whyRun = (run: string) => answerOf<RunWhy>(`runs/${run}/why`);
const ticksOf = async (job: string) => (await answerOf<Job>(`jobs/${job}`)).ticks;

describe('a platform that no worker takes', () => {
  it('is told at once by run, execute and schedule, with the name that was perhaps meant; then it goes on', async () => {
    const said = 'builder: no worker takes debian-21 now; did you mean debian-12?\n';
    const run = await system.builder('run', '--platform', 'debian-21', '--detach', '-c', 'true');
    expect(run).toMatchObject({ code: 0, stderr: said });
    expect(await system.builder('schedule', 'misspelt', 'debian-21', file('true.sh', 'true'))).toMatchObject({ code: 0, stderr: said });
    expect(await system.builder('execute', 'misspelt')).toMatchObject({ code: 0, stderr: said });
    expect(await system.builder('run', '--platform', 'debian-12', '--detach', '-c', 'true')).toMatchObject({ code: 0, stderr: '' });

    const told = await system.builder('why', run.stdout.slice(0, 8));
    expect(told.stdout.split('\n').slice(0, 2)).toEqual([
      'no worker takes debian-21 now; did you mean debian-12?',
      expect.stringMatching(/^code: +no-worker$/),
    ]);
    expect(await system.json('why', run.stdout.trim())).toMatchObject({ code: 'no-worker', nearestServed: 'debian-12' });
    expect(await system.json('why', 'misspelt')).toMatchObject({ code: 'runs-wait', openRuns: 1, openRun: { code: 'no-worker' } });
    expect((await system.builder('why', 'misspelt')).stdout).toContain('did you mean debian-12?');
  });
});

describe('why', () => {
  it('says what runs, what waits for a slot, and what has ended', async () => {
    const runs = await id('run', '--platform', 'test', '--detach', '-c', 'sleep 600');
    await until(async () => (await whyRun(runs)).code === 'running', 'the run to run');
    const waits = await id('run', '--platform', 'test', '--detach', '-c', 'exit 3');
    const waiting = await until(async () => {
      const answer = await whyRun(waits);
      return answer.code === 'slots-busy' ? answer : null;
    }, 'the slot to be seen busy');
    expect(waiting).toMatchObject({ position: 1, slots: 1, busy: 1, state: 'waiting' });
    await system.builder('cancel', runs);
    await until(async () => (await whyRun(waits)).code === 'finished', 'it to end');
    expect((await system.builder('why', waits)).stdout).toMatch(/^it has ended: failed with exit code 3\n/);
  });

  it('of what nobody knows ends with 66, of no name with 2', async () => {
    for (const name of ['nobody', 'deadbeef', '00000000-0000-4000-8000-000000000000'])
      expect(await system.builder('why', name)).toEqual({ code: 66, stdout: '', stderr: `builder: no such run or job: ${name}\n` });
    expect((await system.builder('why')).code).toBe(2);
  });
});

describe('a schedule', () => {
  it('under overlap skip makes no second run while one is open; info and why say so', async () => {
    const script = file('slow.sh', 'sleep 600');
    expect((await system.builder('schedule', 'slow', 'test', script, '--every', '1s', '--overlap', 'skip')).code).toBe(0);
    await until(async () => (await ticksOf('slow')).skipped >= 2, 'ticks to be skipped');
    expect((await system.json('runs', 'slow')).runs).toHaveLength(1);
    expect((await system.builder('info')).stdout).toMatch(/slow +every 1s +\S+ +skipped \d+, last \d{4}-/);
    expect(await system.json('why', 'slow')).toMatchObject({ openRuns: 1, lastTick: { code: 'overlap' } });
    expect((await system.builder('unschedule', 'slow')).code).toBe(0);
  });

  it('whose ticks fell due while everything was down says how many were missed', async () => {
    const script = file('tick.sh', 'true');
    expect((await system.builder('schedule', 'often', 'debian-12', script, '--every', '1s')).code).toBe(0);
    await until(async () => (await system.json('runs', 'often')).runs.length > 0, 'the first run');
    system.up.child.kill('SIGKILL');
    await system.up.ended;
    const downMs = Date.now();
    await until(() => Date.now() > downMs + 4_000, 'ticks to be missed');
    await system.again();
    const ticks = await until(async () => ((await ticksOf('often')).missed > 0 ? ticksOf('often') : null), 'them to be counted');
    expect(ticks.missed).toBeGreaterThanOrEqual(2);
    expect(Date.parse(ticks.lastMissedAt ?? '')).toBeGreaterThan(downMs);
    expect((await system.builder('info')).stdout).toMatch(/often +every 1s +\S+ +missed \d+, last \d{4}-/);
    expect((await system.builder('unschedule', 'often')).code).toBe(0);
  });
});
