import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import { readManifest } from '../../src/artifacts/manifest.ts';
import type { Artifact } from '../../src/job/artifact.ts';
import { readArchived } from '../../src/logs/archive.ts';
import { keys } from '../../src/redis/keys.ts';
import { createLogger } from '../../src/service/logger.ts';
import { startSalvage } from '../../workers/salvage.ts';
import { type Pool, processesOf, startPool } from '../support/pool.ts';
import { type Finished, type Program, startProgram } from '../support/system.ts';
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

async function proxyToRedis(): Promise<TcpProxy> {
  const proxy = await startTcpProxy(Number(new URL(pool.redis.tcpUrl).port));
  proxies.push(proxy);
  return proxy;
}

const workDir = (name: string): string => `${pool.folder.path}/work-${name}`;

/** Folders that were taken from the dead, and attempts of the living. */
function leftIn(name: string): string[] {
  return readdirSync(workDir(name)).flatMap((worker) => {
    const runs = `${workDir(name)}/${worker}/runs`;
    return worker.startsWith('~') ? [worker] : existsSync(runs) ? readdirSync(runs) : [];
  });
}

async function killed(worker: Program): Promise<void> {
  worker.child.kill('SIGKILL');
  await worker.ended;
}

/** Lines by which a script tells the test something that does not go through the worker. */
function told(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** The one attempt that a worker has on its disk. */
function attemptFolder(name: string, worker: string): string {
  const runs = `${workDir(name)}/${worker}/runs`;
  return `${runs}/${readdirSync(runs)[0]}`;
}

const spoolOf = (name: string, worker: string): string => told(`${attemptFolder(name, worker)}/log.ndjson`);

/** Says that it has begun, then, once it is told that Redis is away, a thousand lines more; its second attempt is short. */
const TALKS_WHILE_AWAY = `echo attempt $BUILDER_ATTEMPT
echo file of attempt $BUILDER_ATTEMPT > out.txt
if [ $BUILDER_ATTEMPT = 1 ]; then
  mkdir deep; printf unchanged > deep/er; ln -s /etc/passwd link
  while [ ! -e $GO ]; do sleep 0.05; done
  for n in $(seq 1 1000); do echo line $n; done
  sleep 600
fi
`;
const SAID = `attempt 1\n${Array.from({ length: 1000 }, (_, n) => `line ${n + 1}\n`).join('')}`;
const STORED = /^builder: the worker ended before all of this attempt was stored; a later start stored what it had left$/m;

/** A worker of a platform and work folder of its own, killed while Redis is away from it and its spool holds all that the script said. */
async function dieWhileAway(name: string, more: object = {}): Promise<{ id: string; proxy: TcpProxy }> {
  const proxy = await proxyToRedis();
  const go = `${pool.folder.path}/go-${name}`;
  const worker = await pool.startWorker(`${name}-1`, { proxy, platforms: [name], workDir: workDir(name) });
  const id = await pool.submit(TALKS_WHILE_AWAY, { platform: name, env: { GO: go }, ...more });
  await until(async () => (await pool.log(id)).includes('attempt 1'), 'the first line');
  await proxy.set('refuse');
  writeFileSync(go, '');
  await until(() => spoolOf(name, `${name}-1`).includes('"line 1000"'), 'the spool to have all');
  await killed(worker);
  expect(await pool.log(id, '?attempt=1')).toBe('attempt 1\n');
  return { id, proxy };
}

async function pathsOf(id: string, query = ''): Promise<string[]> {
  const { artifacts } = (await pool.api(`/runs/${id}/artifacts${query}`)).json as { artifacts: Artifact[] };
  return artifacts.map(({ path }) => path);
}

function builder(...args: string[]): Promise<Finished> {
  return startProgram(args, { env: { BUILDER_SERVER: pool.access.url, BUILDER_TOKEN: pool.access.token } }).ended;
}

const salvaged = (worker: Program, times = 1): Promise<true> =>
  until(() => worker.stderr.split('is seen to').length > times, 'what was left to be seen to') as Promise<true>;

describe('a worker that is killed while Redis is away from it', () => {
  it('is followed by one that stores what it held: every line and file shows as those of attempt 1; the run’s own result is attempt 2', async () => {
    const { id, proxy } = await dieWhileAway('away');
    await proxy.set('pass');
    const heir = await pool.startWorker('away-2', { platforms: ['away'], workDir: workDir('away') });
    await salvaged(heir);
    const run = await pool.finished(id);
    expect(run).toMatchObject({ outcome: 'succeeded', attempt: 2, artifactCount: 1, log: { missing: 0 } });
    expect(run.attempts.map(({ outcome }) => outcome)).toEqual(['superseded', 'succeeded']);

    const first = await pool.log(id, '?attempt=1');
    expect(first.replace(/^builder: .*\n/gm, '')).toBe(SAID);
    expect(first).toMatch(STORED);
    expect(first).toContain('builder: skipped link: symbolic links are not stored\n');
    expect(await pathsOf(id, '?attempt=1')).toEqual(['deep/er', 'out.txt']);
    expect((await pool.api(`/runs/${id}/artifacts/out.txt?attempt=1`)).text).toBe('file of attempt 1\n');

    const out = `${pool.folder.path}/out`;
    expect(await builder('observe', id, '--attempt', '1')).toMatchObject({ code: 0, stdout: first });
    expect((await builder('artifacts', id, '--attempt', '1')).stdout).toContain('deep/er');
    expect((await builder('download', id, 'out.txt', '--attempt', '1', '-o', out)).code).toBe(0);
    expect(told(`${out}/out.txt`)).toBe('file of attempt 1\n');

    const second = await pool.log(id);
    expect(second).toBe('builder: attempt 2 on worker away-2\nattempt 2\n');
    expect(run.log.sha256).toBe(createHash('sha256').update(second).digest('hex'));
    expect(await pathsOf(id)).toEqual(['out.txt']);
    expect((await pool.api(`/runs/${id}/artifacts/out.txt`)).text).toBe('file of attempt 2\n');

    const store = await openFolderStore(pool.storePath);
    const { claim } = JSON.parse(String(await pool.client.hget(keys.run(id), 'a1')));
    expect(await readManifest(store, id, 1, claim)).toMatchObject({
      ...{ outcome: 'superseded', worker: 'away-1', platform: 'away' },
      log: { lines: first.split('\n').length - 1, missing: 0 },
    });
    await store.close();
    await until(() => leftIn('away').length === 0, 'nothing to be left');
  });

  it('loses nothing when the next one is stopped or killed while the store is away: the one after that stores it, once', async () => {
    const { id } = await dieWhileAway('late');
    // A file in the place of the run's folder: nothing of this run can be stored.
    const obstacle = `${pool.storePath}/runs/${id}`;
    mkdirSync(`${pool.storePath}/runs`, { recursive: true });
    writeFileSync(obstacle, '');
    for (const [n, signal] of (['SIGTERM', 'SIGKILL'] as const).entries()) {
      const next = await pool.startWorker(`late-${n + 2}`, { platforms: ['nothing'], workDir: workDir('late') });
      await until(() => next.stderr.includes('refused; trying again'), 'it to try');
      next.child.kill(signal);
      expect((await next.ended).code).toBe(signal === 'SIGTERM' ? 0 : null);
    }
    rmSync(obstacle);
    const last = await pool.startWorker('late-4', { platforms: ['late'], workDir: workDir('late') });
    await salvaged(last);
    await pool.finished(id);
    const log = await pool.log(id, '?attempt=1');
    expect(log.replace(/^builder: .*\n/gm, '')).toBe(SAID);
    expect(log.match(new RegExp(STORED, 'gm'))).toHaveLength(1);
    await until(() => leftIn('late').length === 0, 'nothing to be left');
  });

  it('and whose run is cancelled meanwhile: the log that the result counts stays, the files show when attempt 1 is asked for', async () => {
    const { id } = await dieWhileAway('cancelled');
    await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: {} });
    const before = await pool.finished(id);
    expect(before).toMatchObject({ outcome: 'cancelled', attempt: 1, log: { lines: 1 } });
    await salvaged(await pool.startWorker('cancelled-2', { platforms: ['cancelled'], workDir: workDir('cancelled') }));
    expect(await pool.run(id)).toEqual(before);
    expect(await pool.log(id)).toBe('attempt 1\n');
    expect(await pool.log(id, '?attempt=1')).toBe('attempt 1\n');
    expect(await pathsOf(id)).toEqual([]);
    expect(await pathsOf(id, '?attempt=1')).toEqual(['deep/er', 'out.txt']);
    await until(() => leftIn('cancelled').length === 0, 'nothing to be left');
  });

  it('and whose run Redis has lost: manifest, log and files are in the store', async () => {
    const { id } = await dieWhileAway('forgotten');
    const { claim } = JSON.parse(String(await pool.client.hget(keys.run(id), 'a1')));
    await pool.client.del(keys.run(id), keys.log(id, 1, claim));
    await salvaged(await pool.startWorker('forgotten-2', { platforms: ['nothing'], workDir: workDir('forgotten') }));
    const store = await openFolderStore(pool.storePath);
    const manifest = await readManifest(store, id, 1, claim);
    expect(manifest).toMatchObject({ outcome: 'superseded', worker: 'forgotten-1', platform: 'forgotten', log: { missing: 0 } });
    expect(manifest?.artifacts.map(({ path }) => path)).toEqual(['deep/er', 'out.txt']);
    const text = (await readArchived(store, { run: id, attempt: 1, claim }, 500))?.ndjson.toString();
    expect(
      text
        ?.split('\n')
        .slice(0, 1001)
        .map((json) => JSON.parse(json).text),
    ).toEqual(SAID.split('\n').slice(0, -1));
    await store.close();
    await until(() => leftIn('forgotten').length === 0, 'nothing to be left');
  });

  it('and whose script wrote to the log’s file itself: the log ends there, the files are kept, the next worker lives', async () => {
    const proxy = await proxyToRedis();
    const worker = await pool.startWorker('spoilt-1', { proxy, platforms: ['spoilt'], workDir: workDir('spoilt') });
    const script = 'echo one; echo kept > out.txt; while [ ! -e go ]; do sleep 0.05; done; echo two; sleep 600';
    const id = await pool.submit(script, { platform: 'spoilt' });
    await until(async () => (await pool.log(id)).includes('one'), 'the first line');
    await proxy.set('refuse');
    const folder = attemptFolder('spoilt', 'spoilt-1');
    writeFileSync(`${folder}/home/go`, '');
    await until(() => spoolOf('spoilt', 'spoilt-1').includes('two'), 'the second line');
    await killed(worker);
    rmSync(`${folder}/log.ndjson`);
    symlinkSync('/etc/passwd', `${folder}/log.ndjson`);
    const heir = await pool.startWorker('spoilt-2', { platforms: ['nothing'], workDir: workDir('spoilt') });
    await salvaged(heir);
    expect(heir.stderr).toContain('the rest of a log is spoilt');
    expect((await pool.log(id, '?attempt=1')).replace(/^builder: .*\n/gm, '')).toBe('one\n');
    expect(await pathsOf(id, '?attempt=1')).toEqual(['go', 'out.txt']);
    await until(() => leftIn('spoilt').length === 0, 'nothing to be left');
    await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: {} });
  });
});

describe('a worker that gets SIGTERM twice while Redis is away from it', () => {
  it('leaves what it could not store: the next start gives it to a follower of the attempt, which nobody has taken again yet', async () => {
    const proxy = await proxyToRedis();
    const worker = await pool.startWorker('forced-1', { proxy, platforms: ['forced'], workDir: workDir('forced') });
    const id = await pool.submit('echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; sleep 600', { platform: 'forced' });
    await until(async () => (await pool.log(id)).includes('one'), 'the first line');
    await proxy.set('refuse');
    writeFileSync(`${attemptFolder('forced', 'forced-1')}/home/go`, '');
    await until(() => spoolOf('forced', 'forced-1').includes('two'), 'the second line');
    worker.child.kill('SIGTERM');
    worker.child.kill('SIGINT');
    expect((await worker.ended).code).toBe(0);
    expect(processesOf(`BUILDER_RUN_ID=${id}`)).toEqual([]);
    await salvaged(await pool.startWorker('forced-2', { platforms: ['nothing'], workDir: workDir('forced') }));
    expect((await pool.run(id)).attempts).toMatchObject([{ number: 1, outcome: null }]);
    expect((await pool.log(id)).split('\n')).toEqual([
      ...['one', 'two', 'builder: interrupted: the worker stops; the run goes back to the queue'],
      ...[expect.stringMatching(STORED), ''],
    ]);
    await until(() => leftIn('forced').length === 0, 'nothing to be left');
    await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: {} });
  });
});

const DAEMON = `setsid sh -c ': >up; exec sleep 300' </dev/null >/dev/null 2>&1 &
while [ ! -e up ]; do :; done
cat /proc/self/cgroup
echo up
sleep 300
`;

describe('kill -9 of a worker whose script left a daemon', () => {
  it.each(['none', 'auto'] as const)(
    'under sandbox %s: the next start leaves no process, folder or control group of it, and a living neighbour’s run goes on',
    async (sandbox) => {
      const name = `daemon-${sandbox}`;
      const place = { workDir: workDir(name), sandbox };
      const neighbour = await pool.startWorker(`${name}-b`, { ...place, platforms: [`${name}-b`] });
      const beside = await pool.submit('echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done', { platform: `${name}-b` });
      await until(async () => (await pool.log(beside)).includes('begun'), 'the neighbour’s run');
      const worker = await pool.startWorker(`${name}-a`, { ...place, platforms: [name] });
      const id = await pool.submit(DAEMON, { platform: name, pids: 50 });
      await until(async () => /^up$/m.test(await pool.log(id)), 'the daemon');
      const groups = ownGroups(await pool.log(id));
      // What starts its scripts would end them; here it is killed at the same moment.
      const slots = sandbox === 'none' ? childrenOf(worker.child.pid as number) : [];
      for (const slot of slots) process.kill(slot, 'SIGSTOP');
      await killed(worker);
      for (const slot of slots) process.kill(slot, 'SIGKILL');
      if (sandbox === 'none') expect(processesOf(`BUILDER_RUN_ID=${id}`)).not.toEqual([]);
      const running = processesOf(`BUILDER_RUN_ID=${beside}`);
      expect(running).not.toEqual([]);

      const next = await pool.startWorker(`${name}-a`, { ...place, platforms: ['nothing'] });
      expect(processesOf(`BUILDER_RUN_ID=${id}`)).toEqual([]);
      await salvaged(next);
      await until(() => readdirSync(workDir(name)).sort().join() === `${name}-a,${name}-b`, 'nothing else to be left');
      expect(existsSync(`${workDir(name)}/${name}-a/runs`)).toBe(false);
      expect(groups.filter((path) => existsSync(path))).toEqual([]);

      expect(processesOf(`BUILDER_RUN_ID=${beside}`)).toEqual(expect.arrayContaining(running.slice(0, 1)));
      writeFileSync(`${attemptFolder(name, `${name}-b`)}/home/go`, '');
      expect(await pool.finished(beside)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
      expect(await pool.log(beside)).toBe('begun\ndone\n');
      expect(neighbour.child.exitCode).toBeNull();
    },
  );
});

describe('kill -9 of a worker', () => {
  it.each(['none', 'auto'] as const)('under sandbox %s: its scripts end with it, daemons and all', async (sandbox) => {
    const name = `alone-${sandbox}`;
    const worker = await pool.startWorker(name, { workDir: workDir(name), sandbox, platforms: [name] });
    const id = await pool.submit(DAEMON, { platform: name });
    await until(async () => /^up$/m.test(await pool.log(id)), 'the daemon');
    await killed(worker);
    await until(() => processesOf(`BUILDER_RUN_ID=${id}`).length === 0, 'its processes to end');
  });
});

describe('a copy of a living worker’s folder', () => {
  it('is left alone: the run’s log, files and end are those of the worker that executes it; once that has ended the copy goes', async () => {
    await pool.startWorker('copied', { platforms: ['copied'], workDir: workDir('copied') });
    const id = await pool.submit('echo early > f; echo early; while [ ! -e go ]; do sleep 0.05; done; echo late > f; echo late; rm go', {
      platform: 'copied',
    });
    await until(async () => (await pool.log(id)).includes('early'), 'the first line');
    const [original, path] = [attemptFolder('copied', 'copied'), `${workDir('copy')}/~copy`];
    const [name = ''] = original.split('/').slice(-1);
    cpSync(original, `${path}/runs/${name}`, { recursive: true });
    const store = await openFolderStore(pool.storePath);
    const attempt = { path: `${path}/runs/${name}`, run: id, attempt: 1, claim: name.split('-').at(-1) ?? '' };
    const warned: string[] = [];
    const logger = createLogger('test', 'silent');
    logger.warn = ((_: object, text: string) => void warned.push(text)) as typeof logger.warn;
    const salvage = () =>
      startSalvage({
        ...{ left: [{ path, attempts: [attempt], fault: null }], redis: pool.client, store, logger },
        until: new AbortController().signal,
      }).close();

    await salvage();
    expect(warned).toEqual([expect.stringContaining('a living worker executes this attempt')]);
    expect(existsSync(`${attempt.path}/log.ndjson`)).toBe(true);
    expect(await readManifest(store, id, 1, attempt.claim)).toBeNull();
    writeFileSync(`${original}/home/go`, '');
    expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 1, artifactCount: 1, log: { lines: 2, missing: 0 } });
    expect(await pool.log(id)).toBe('early\nlate\n');
    expect((await pool.api(`/runs/${id}/artifacts/f`)).text).toBe('late\n');

    const before = await readManifest(store, id, 1, attempt.claim);
    await salvage();
    expect(existsSync(path)).toBe(false);
    expect(await readManifest(store, id, 1, attempt.claim)).toEqual(before);
    await store.close();
  });
});

describe('two workers that start at once on the folder of a dead one', () => {
  it('store each of its attempts once between them', async () => {
    const RUNS = 6;
    const worker = await pool.startWorker('twins-0', { platforms: ['twins'], workDir: workDir('twins'), concurrency: RUNS });
    const ids = await Promise.all(
      Array.from({ length: RUNS }, () => pool.submit('echo begun; echo x > out; sleep 300', { platform: 'twins' })),
    );
    for (const id of ids) await until(async () => (await pool.log(id)).includes('begun'), 'a run to begin');
    await killed(worker);
    const twins = await Promise.all(
      ['twins-1', 'twins-2'].map((name) => pool.startWorker(name, { platforms: ['nothing'], workDir: workDir('twins') })),
    );
    const seen = (): string[] => twins.flatMap(({ stderr }) => stderr.split('\n').filter((line) => line.includes('is seen to')));
    await until(() => leftIn('twins').length === 0, 'nothing to be left');
    await until(() => seen().length >= RUNS, 'all to be told');
    expect(
      seen()
        .map((line) => JSON.parse(line).run)
        .sort(),
    ).toEqual([...ids].sort());
    for (const id of ids) expect(await pathsOf(id, '?attempt=1')).toEqual(['out']);
    for (const id of ids) await pool.api(`/runs/${id}/cancel`, { method: 'POST', body: {} });
  });
});

/** The control groups of a run, from what its script saw of them. */
function ownGroups(log: string): string[] {
  const paths = [...log.matchAll(/^\d+:([^:]*):(\/.*\/builder-[0-9a-f]+)$/gm)];
  return paths.map(([, controllers = '', path]) => `/sys/fs/cgroup/${controllers === '' ? '' : controllers}${path}`);
}

function childrenOf(parent: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) =>
    told(`/proc/${pid}/stat`)
      .replace(/^.*\) \S /s, '')
      .startsWith(`${parent} `),
  );
}
