import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import type { Run } from '../../src/job/run.ts';
import { findCgroups, type Hierarchy } from '../../workers/limits/cgroups.ts';
import { type Program, runOf, type System, startProgram, startSystem } from '../support/system.ts';
import { until } from '../support/until.ts';

const cgroups = findCgroups();
/** In a place of its own where nothing of the control groups is to be seen. */
const HIDE_GROUPS = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"';
const WITHOUT_GROUPS = ['unshare', ...(process.getuid?.() === 0 ? [] : ['--map-root-user']), '--mount', 'sh', '-c', HIDE_GROUPS, 'sh'];
let system: System;
/** One that may make no control groups. */
let poor: Program;

beforeAll(async () => {
  system = await startSystem('--concurrency', '8');
  const env = {
    BUILDER_REDIS_URL: 'unix:redis.sock',
    BUILDER_STORE: `file://${system.dir}/store`,
    BUILDER_WORK_DIR: `${system.folder.path}/poor`,
  };
  const args = ['worker', '--platform', 'poor', '--name', 'poor', '--sandbox', 'none'];
  poor = startProgram(args, { cwd: system.dir, env, through: WITHOUT_GROUPS });
  await until(() => poor.stderr.includes('takes runs') || poor.child.exitCode !== null, 'the worker to take runs');
});

afterAll(async () => {
  poor.child.kill('SIGTERM');
  await poor.ended;
  await system.stop();
});

const newest = async (): Promise<Run> => (await system.json('runs', '--limit', '1')).runs[0] as Run;
const run = (platform: string, ...args: string[]) => system.builder('run', '--platform', platform, ...args);
const groupsOf = (id: string, controller: keyof typeof cgroups): string => (cgroups[controller] as Hierarchy).base + id;

/** What this machine cannot do shows as skipped, with a line that says why. */
function withGroups(controller: keyof typeof cgroups): typeof it {
  const here = cgroups[controller];
  if (typeof here !== 'string') return it;
  process.stderr.write(`skipped: limits by the ${controller} controller: ${here}\n`);
  return it.skip as typeof it;
}

describe('a limit that the worker cannot enforce', () => {
  it('is said in the first line of the log', async () => {
    const done = await run('poor', '--memory', '512M', '--cpus', '0.5', '--pids', '100', '-c', 'echo ran');
    const [note = '', ran] = done.stdout.split('\n');
    expect([done.code, ran]).toEqual([0, 'ran']);
    expect(note).toMatch(/^builder: not enforced here: memory \(.+; each process by itself may use 512M\), cpus \(.+\), pids \(.+\)$/);
    const [line] = (await system.builder('observe', (await newest()).id, '--json')).stdout.split('\n');
    expect(JSON.parse(line as string)).toMatchObject({ line: 1, source: 'builder', text: note });
  });

  it('refuses the run that insists, and names it', async () => {
    const done = await run('poor', '--memory', '512M', '--strict-limits', '-c', 'echo ran');
    expect([done.code, done.stdout]).toEqual([125, '']);
    expect(await newest()).toMatchObject({ outcome: 'refused', reason: expect.stringMatching(/^limits: not enforced here: memory \(/) });
  });

  it('always refuses the run where it is the network that cannot be taken away', async () => {
    expect(await run('poor', '--network', 'none', '-c', 'echo ran')).toMatchObject({ code: 125, stdout: '' });
    expect((await newest()).reason).toMatch(/^limits: not enforced here: network/);
  });
});

describe('a limit that is enforced', () => {
  it('of silence ends the run as a timeout does', async () => {
    const done = await run('test', '--silence', '300ms', '-c', 'echo begun; sleep 300');
    expect([done.code, done.stdout]).toEqual([124, 'begun\nbuilder: silence: no output for 300ms\n']);
    expect(await newest()).toMatchObject({ outcome: 'timed-out', reason: 'silence: no output for 300ms' });
  });

  it('of disk kills the run, and what it had written is kept', async () => {
    const done = await run('test', '--disk', '2M', '-c', 'head -c 1500000 /dev/zero > a; head -c 1500000 /dev/zero > b; sleep 300');
    expect(done.code).toBe(137);
    expect(await newest()).toMatchObject({ outcome: 'signalled', reason: expect.stringMatching(/^disk: .* 2M$/), artifactCount: 2 });
  });

  it('of disk stops a single file at once', async () => {
    const done = await run('test', '--disk', '2M', '-c', 'head -c 5000000 /dev/zero > a');
    expect([done.code, await newest()]).toEqual([153, expect.objectContaining({ reason: expect.stringMatching(/^disk: /) })]);
  });

  withGroups('memory')('of memory is the end of the script, not of its worker', async () => {
    const worker = await system.pid('worker');
    const eats = `exec perl -e 'my $eaten = "x" x (256 * 1024 * 1024); print "ate"'`;
    const done = await run('test', '--memory', '32M', '--strict-limits', '-c', eats);
    expect([done.code, done.stdout]).toEqual([137, 'builder: memory: the kernel killed a process of the run at its limit of 32M\n']);
    expect(await newest()).toMatchObject({ outcome: 'signalled', signal: 'SIGKILL', reason: expect.stringMatching(/^memory: .* 32M$/) });
    expect(await system.pid('worker')).toBe(worker);
  });

  it('is carried by a job, and by the run that runs again', async () => {
    const script = system.start(['schedule', 'quiet', 'test', '-', '--period', 'never', '--silence', '200ms'], {
      input: 'sleep 300\n',
    });
    expect((await script.ended).code).toBe(0);
    expect((await system.builder('execute', 'quiet', '--follow')).code).toBe(124);
    const again = (await system.builder('rerun', (await newest()).id)).stdout.trim();
    const ended = await until(async () => ((await runOf(system, again)).state === 'finished' ? runOf(system, again) : null), 'it to end');
    expect(ended.reason).toBe('silence: no output for 200ms');
  });

  it.each([
    [['--memory', '12'], /memoryBytes|--memory/],
    [['--memory', 'much'], /--memory: expected a size such as 512M/],
    [['--cpus', '0'], /expected --cpus of 0.01/],
    [['--pids', '0'], /expected --pids of 1/],
    [['--disk', '-1M'], /disk/],
    [['--network', 'some'], /network/],
  ])('is refused where it is none: %p', async (flags, said) => {
    const refused = await run('test', ...flags, '-c', 'true');
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(said)]);
  });
});

describe('scripts that burn every core', () => {
  it('delay no heartbeat and no renewal of a lock', async () => {
    const burning = Array.from({ length: 4 }, () =>
      system.builder('run', '--detach', '--platform', 'test', '-c', 'for i in 1 2 3 4; do while :; do :; done & done; wait'),
    );
    const ids = (await Promise.all(burning)).map(({ stdout }) => stdout.trim());
    const beats = async (): Promise<number> => {
      const { workers } = await system.json('info');
      return Date.parse(workers.find(({ platforms }) => platforms.includes('test'))?.lastSeenAt ?? '');
    };
    const begun = await until(async () => {
      const runs = await Promise.all(ids.map((id) => runOf(system, id)));
      return runs.every(({ state }) => state === 'running') ? beats() : 0;
    }, 'all to run');
    // Longer than a lock lives without renewal, and than a server takes to notice.
    const aLock = limits.lockDurationMs + 2 * limits.stalledIntervalMs;
    await until(async () => (await beats()) > begun + aLock, 'heartbeats over more than the life of a lock', 60_000);
    for (const id of ids) {
      expect(await runOf(system, id)).toMatchObject({ state: 'running', attempt: 1 });
      await system.builder('cancel', id);
    }
    for (const id of ids) {
      await until(async () => (await runOf(system, id)).outcome === 'cancelled', 'the end of the run');
    }
  });
});

describe('what escapes the sweep of the sandbox none', () => {
  withGroups('pids')('is ended by the run’s control group, and named', async () => {
    const env = {
      BUILDER_REDIS_URL: 'unix:redis.sock',
      BUILDER_STORE: `file://${system.dir}/store`,
      BUILDER_WORK_DIR: `${system.folder.path}/bare`,
    };
    const args = ['worker', '--platform', 'bare', '--name', 'bare', '--sandbox', 'none'];
    const bare = startProgram(args, { cwd: system.dir, env });
    await until(() => bare.stderr.includes('takes runs') || bare.child.exitCode !== null, 'the worker to take runs');
    try {
      const script = "env -i setsid sh -c 'sleep 7797 & sleep 7798' > /dev/null 2>&1 & sleep 0.3";
      const done = await run('bare', '--pids', '50', '-c', script);
      expect([done.code, done.stdout]).toEqual([0, expect.stringContaining('sleep 7797')]);
      expect((await newest()).attempts[0]?.killed.map(({ command }) => command)).toEqual(
        expect.arrayContaining(['sleep 7797', 'sleep 7798']),
      );
    } finally {
      bare.child.kill('SIGTERM');
      await bare.ended;
    }
  });
});

describe('control groups of a run whose worker was killed', () => {
  withGroups('pids')('are gone once the worker has started again', async () => {
    const command = 'cat /proc/self/cgroup; if [ $BUILDER_ATTEMPT = 1 ]; then sleep 600; fi';
    const id = (await system.builder('run', '--detach', '--platform', 'test', '--pids', '50', '-c', command)).stdout.trim();
    const [, group] = await until(async () => {
      const { stdout } = await system.builder('observe', id, '--no-follow');
      return /(\/builder-[0-9a-f]+)$/m.exec(stdout);
    }, 'the script to say where it is');
    const path = groupsOf(group as string, 'pids');
    expect(existsSync(path)).toBe(true);
    const worker = await system.pid('worker');
    process.kill(worker, 'SIGKILL');
    await system.pid('worker', worker);
    await until(() => !existsSync(path), 'the group to be gone');
    await until(async () => (await runOf(system, id)).outcome === 'succeeded', 'the second attempt to end', 60_000);
  });
});
