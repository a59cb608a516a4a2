import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import { runOf, type System, startSystem } from '../support/system.ts';
import { until } from '../support/until.ts';

/** Lock duration, check interval and some room: what it takes until a run of a dead worker is taken again. */
const RETAKEN_MS = 60_000;
let system: System;

afterEach(() => system.stop());

const finished = (id: string, url = system.url) =>
  until(
    async () => {
      const run = await runOf({ ...system, url }, id).catch(() => null);
      return run?.state === 'finished' ? run : null;
    },
    `run ${id} to end`,
    RETAKEN_MS,
  );

/** A run that takes a moment, whatever attempt it is. */
async function submit(command: string): Promise<string> {
  const run = await system.builder('run', '--detach', '--platform', 'test', '-c', command);
  expect(run).toMatchObject({ code: 0, stderr: '' });
  return run.stdout.trim();
}

const running = (id: string) => until(async () => (await runOf(system, id)).state === 'running', `run ${id} to be running`);

/** Processes on this machine that carry the mark of a run. */
function processesOf(id: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`BUILDER_RUN_ID=${id}`);
    } catch {
      return false;
    }
  });
}

describe('kill -9', () => {
  it.each(['auto', 'none'])(
    'of the worker (sandbox %s): up starts it again, the run is taken again, its first attempt stays visible',
    async (sandbox) => {
      system = await startSystem('--sandbox', sandbox);
      const id = await submit('echo attempt $BUILDER_ATTEMPT; if [ $BUILDER_ATTEMPT = 1 ]; then sleep 600; fi');
      await running(id);
      process.kill(await system.pid('worker'), 'SIGKILL');
      const run = await finished(id);
      expect(run).toMatchObject({ outcome: 'succeeded', attempt: 2 });
      expect(run.attempts.map(({ outcome }) => outcome)).toEqual(['superseded', 'succeeded']);
      expect((await system.builder('observe', id)).stdout).toContain('attempt 2\n');
      expect(processesOf(id)).toEqual([]);
    },
  );

  it('of the server: producers that follow go on where they were', async () => {
    system = await startSystem();
    const go = `${system.folder.path}/go`;
    const id = await submit('for n in 1 2 3; do echo line $n; sleep 0.3; done; sleep 2; echo the end');
    const follower = system.start(['observe', id]);
    await until(() => follower.stdout.includes('line 1'), 'the first line');
    process.kill(await system.pid('server'), 'SIGKILL');
    expect(existsSync(go)).toBe(false);
    const done = await follower.ended;
    expect([done.code, done.stdout]).toEqual([0, 'line 1\nline 2\nline 3\nthe end\n']);
  });

  it('of Redis: what runs goes on, its log arrives whole', async () => {
    system = await startSystem();
    const id = await submit('for n in $(seq 1 200); do echo line $n; sleep 0.01; done');
    await running(id);
    const redis = await system.pid('redis');
    process.kill(redis, 'SIGKILL');
    await system.pid('redis', redis);
    const run = await finished(id);
    expect(run).toMatchObject({ outcome: 'succeeded', attempt: 1, log: { lines: 200, missing: 0 } });
    expect((await system.builder('observe', id)).stdout).toBe(Array.from({ length: 200 }, (_, n) => `line ${n + 1}\n`).join(''));
  });

  it('of everything: up on the same folder goes on, and every accepted run ends in an outcome', async () => {
    system = await startSystem('--concurrency', '2');
    const script = `${system.folder.path}/tick.sh`;
    writeFileSync(script, 'echo tick\n');
    expect((await system.builder('schedule', 'ticking', 'test', script, '--every', '2s')).code).toBe(0);
    const ids: string[] = [];
    for (let n = 0; n < 12; n += 1) ids.push(await submit(`echo run ${n}; echo kept > file; sleep 0.${n % 4}`));
    const pids = [system.up.child.pid ?? 0, await system.pid('redis'), await system.pid('server'), await system.pid('worker')];
    // What Redis had synced survives: accepted runs are a second old by then at the latest.
    const aof = () =>
      readdirSync(`${system.dir}/redis/appendonlydir`)
        .map((name) => readFileSync(`${system.dir}/redis/appendonlydir/${name}`, 'latin1'))
        .join('');
    await until(() => ids.every((id) => aof().includes(id)), 'the runs to be written');
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await system.up.ended;
    await system.again();
    for (const id of ids) expect(await finished(id)).toMatchObject({ outcome: 'succeeded', artifactCount: 1 });
    const before = (await system.json('runs', 'ticking')).runs.length;
    await until(async () => (await system.json('runs', 'ticking')).runs.length > before, 'the schedule to go on');
    expect((await system.builder('unschedule', 'ticking')).code).toBe(0);
  });

  it('of up alone: what it started ends too, and the next one goes on', async () => {
    system = await startSystem();
    const id = await submit('sleep 0.5; echo done');
    const pids = [await system.pid('redis'), await system.pid('server'), await system.pid('worker')];
    system.up.child.kill('SIGKILL');
    await system.up.ended;
    await until(() => pids.every((pid) => !existsSync(`/proc/${pid}`)), 'its programs to end');
    await system.again();
    expect(await finished(id)).toMatchObject({ outcome: 'succeeded' });
  });
});

describe('a start that fails', () => {
  it('because its port is in use begins no script, and the next one runs what waits', async () => {
    system = await startSystem('--sandbox', 'none');
    const begun = `${system.folder.path}/begun`;
    const submitted = await system.builder('run', '--detach', '--platform', 'later', '-c', `echo begun >> ${begun}`);
    expect(submitted.code).toBe(0);
    system.up.child.kill('SIGTERM');
    await system.up.ended;
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const up = (port: number) => ['up', '--data', system.dir, '--port', String(port), '--platform', 'later', '--sandbox', 'none'];
    const failed = await system.builder(...up((taken.address() as AddressInfo).port));
    taken.close();
    expect([failed.code, failed.stderr]).toEqual([78, expect.stringContaining('it is in use')]);
    expect(existsSync(begun)).toBe(false);
    const next = system.start(up(0));
    const url = await until(() => /serves (http:\S+)/.exec(next.stdout)?.[1], 'up to serve');
    const run = await finished(submitted.stdout.trim(), url);
    expect(run.attempts.map(({ outcome }) => outcome)).toEqual(['succeeded']);
    expect(readFileSync(begun, 'utf8')).toBe('begun\n');
    next.child.kill('SIGTERM');
    expect((await next.ended).code).toBe(0);
  });
});

describe('stopping', () => {
  it('lets a short script end, and leaves no process', async () => {
    system = await startSystem();
    const id = await submit('sleep 1; echo done');
    await running(id);
    const pids = [await system.pid('redis'), await system.pid('server'), await system.pid('worker')];
    system.up.child.kill('SIGTERM');
    expect((await system.up.ended).code).toBe(0);
    expect(pids.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
    await system.again();
    expect(await runOf(system, id)).toMatchObject({ state: 'finished', outcome: 'succeeded', attempt: 1 });
  });

  it.each([1, 2])('by %i signals ends a script that ignores SIGTERM, puts it back unharmed, and leaves nothing', async (signals) => {
    system = await startSystem();
    const id = await submit(`trap '' TERM; echo a$BUILDER_ATTEMPT; if [ $BUILDER_ATTEMPT = 1 ]; then sleep 600; sleep 600; fi`);
    await running(id);
    for (const signal of (['SIGTERM', 'SIGINT'] as const).slice(0, signals)) system.up.child.kill(signal);
    const { code, stderr } = await system.up.ended;
    expect([code, stderr]).toEqual([0, expect.not.stringContaining('not released in time')]);
    expect(processesOf(id)).toEqual([]);
    await system.again();
    const run = await finished(id);
    expect(run.attempts.map(({ outcome }) => outcome)).toEqual(['interrupted', 'succeeded']);
  });

  it('twice puts a long script back unharmed, and the next start runs it', async () => {
    system = await startSystem();
    const id = await submit('if [ $BUILDER_ATTEMPT = 1 ]; then sleep 600; fi; echo done');
    await running(id);
    system.up.child.kill('SIGTERM');
    system.up.child.kill('SIGINT');
    expect((await system.up.ended).code).toBe(0);
    expect(processesOf(id)).toEqual([]);
    await system.again();
    const run = await finished(id);
    expect(run.attempts.map(({ outcome }) => outcome)).toEqual(['interrupted', 'succeeded']);
  });
});
