/** A run's limits, with real processes and the control groups that this machine has. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import type { Executor } from '../../workers/executor.ts';
import { type Cgroups, findCgroups } from '../../workers/limits/cgroups.ts';
import { diskUsage } from '../../workers/limits/disk-usage.ts';
import { createLimiter, type LimitOptions } from '../../workers/limits/limiter.ts';
import { openRunCgroup, type RunCgroup, removeLeftCgroups } from '../../workers/limits/run-cgroup.ts';
import { alive, describeUnder, executorsHere, type Options, removeRuns, run, type Told } from '../support/executing.ts';
import { specOf } from '../support/specs.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const MIB = 1024 ** 2;
const cgroups = findCgroups();
const executors = await executorsHere();
const folder: TempFolder = tempFolder();
const NEVER = new AbortController().signal;

afterAll(() => {
  removeRuns();
  folder.remove();
});

const asked = (given: Partial<LimitOptions>): ReturnType<typeof specOf> => specOf(given);

/** Tests of what a machine without these groups cannot do show as skipped, with a line that says why. */
function withGroups(controller: keyof Cgroups): typeof test {
  const here = cgroups[controller];
  if (typeof here !== 'string') return test;
  process.stderr.write(`skipped: limits by the ${controller} controller: ${here}\n`);
  return test.skip as typeof test;
}

interface Limited extends Told {
  oomKills: number;
  /** The groups that it had. */
  folders: string[];
}

/** Executes with control groups, as an attempt does. */
async function limited(execute: Executor, script: string, given: Partial<LimitOptions>, options: Options = {}): Promise<Limited> {
  const { cgroup, folders } = open(given);
  try {
    const told = await run(execute, script, { enter: cgroup.enter, ...options });
    return { ...told, oomKills: cgroup.oomKills(), folders };
  } finally {
    await cgroup.close();
    expect(folders.filter((path) => existsSync(path))).toEqual([]);
  }
}

/** Cancels the script once `watch` has seen in its groups what it waited for. */
async function watched(
  execute: Executor,
  script: string,
  given: Partial<LimitOptions>,
  watch: (folders: string[]) => Promise<void>,
): Promise<Told> {
  const { cgroup, folders } = open(given);
  const cancel = new AbortController();
  const running = run(execute, script, { enter: cgroup.enter, cancel: cancel.signal, graceMs: 0 });
  try {
    await watch(folders);
  } finally {
    cancel.abort();
    await running;
    await cgroup.close();
  }
  expect(folders.filter((path) => existsSync(path))).toEqual([]);
  return running;
}

function countIn(group: string, file: string, pattern: RegExp): number {
  return Number(pattern.exec(readFileSync(join(group, file), 'utf8'))?.[1]);
}

function open(
  given: Partial<LimitOptions>,
  claim = randomUUID(),
): { cgroup: RunCgroup; folders: string[]; claim: string; notePath: string } {
  const notePath = join(folder.path, claim);
  const cgroup = openRunCgroup({ cgroups, spec: asked(given), claim, notePath });
  if (cgroup === null) throw new Error('expected control groups, got none');
  return { cgroup, folders: JSON.parse(readFileSync(notePath, 'utf8')) as string[], claim, notePath };
}

const EATS_MEMORY = `perl -e 'my $eaten = "x" x (256 * 1024 * 1024); print length $eaten, "\\n"'`;

describeUnder(executors, 'Under %s', (name, execute) => {
  withGroups('memory')('a script that eats more memory than it may is killed by the kernel, alone, and that is told', async () => {
    const told = await limited(execute, `exec ${EATS_MEMORY}`, { memoryBytes: 32 * MIB });
    expect(told).toMatchObject({ signal: 'SIGKILL', ended: 'exited', stdout: '', oomKills: 1 });
  });

  withGroups('memory')('a script survives the death of its child and can tell', async () => {
    const told = await limited(execute, `#!/bin/sh\n${EATS_MEMORY}\necho ended with $?\n`, { memoryBytes: 32 * MIB });
    expect(told).toMatchObject({ exitCode: 0, stdout: 'ended with 137\n', oomKills: 1 });
  });

  withGroups('memory')('what needs less than it may is left alone', async () => {
    expect(await limited(execute, EATS_MEMORY, { memoryBytes: 1024 * MIB })).toMatchObject({ exitCode: 0, oomKills: 0 });
  });

  withGroups('pids')('a fork bomb stops at its number of processes, and nothing of it is left', async () => {
    const bomb = '#!/bin/sh\nbomb() { bomb | bomb & sleep 300; }\nbomb 2>/dev/null &\nexec sleep 300\n';
    const told = await watched(execute, bomb, { pids: 20 }, async ([group = '']) => {
      await until(() => countIn(group, 'pids.events', /max (\d+)/) > 0, 'a fork to be refused');
      expect(countIn(group, 'pids.current', /(\d+)/)).toBeLessThanOrEqual(20);
    });
    expect([told.ended, alive(told.mark)]).toEqual(['cancelled', []]);
  });

  withGroups('cpu')('a script that burns is held back', async () => {
    await watched(execute, 'while :; do :; done', { cpus: 0.1 }, async ([group = '']) => {
      await until(() => countIn(group, 'cpu.stat', /nr_throttled (\d+)/) > 3, 'the script to be throttled');
    });
  });

  withGroups('pids')('the script itself is in its groups before its first instruction, with all of them asked for at once', async () => {
    const told = await limited(execute, 'cat /proc/self/cgroup', { pids: 50, cpus: 1.5, memoryBytes: 64 * MIB });
    const groups = told.folders.map((path) => path.split('/').at(-1) as string);
    expect(told.stdout.split('\n').filter((line) => line.endsWith(groups[0] as string))).toHaveLength(told.folders.length);
  });

  test('a script is the first to die of want of memory, and nicer than its worker', async () => {
    const script = 'until [ "$(cat /proc/self/oom_score_adj) $(nice)" = "1000 $NICE" ]; do sleep 0.01; done; nice';
    const env = { PATH: '/usr/bin:/bin', NICE: String(Math.min(getPriority() + 5, 19)) };
    expect(await run(execute, script, { env })).toMatchObject({ exitCode: 0, stdout: `${env.NICE}\n` });
  });

  test('a script that is silent for too long is ended', async () => {
    const told = await run(execute, 'echo begun; sleep 300', { silenceMs: 300 });
    expect(told).toMatchObject({ ended: 'silent', signal: 'SIGTERM', stdout: 'begun\n' });
  });

  test('output on either side is no silence', async () => {
    const told = await run(execute, 'for i in 1 2 3 4 5 6; do sleep 0.2; echo $i; sleep 0.2; echo $i >&2; done', { silenceMs: 2_000 });
    expect(told).toMatchObject({ ended: 'exited', exitCode: 0, stdout: '1\n2\n3\n4\n5\n6\n' });
  });

  test('output that waits to be taken is no silence', async () => {
    const claim = randomUUID();
    const mark = `BUILDER_CLAIM=${claim}`;
    const env = { PATH: '/usr/bin:/bin', BUILDER_CLAIM: claim };
    const onOutput = async (): Promise<void> => void (await until(() => alive(mark).length === 0, 'the end of the script'));
    expect(await run(execute, 'echo begun; exec sleep 1', { silenceMs: 300, onOutput, mark, env })).toMatchObject({
      ended: 'exited',
      exitCode: 0,
    });
  });

  test('a script that fills its folder in many files is killed', async () => {
    const script = 'i=0; while :; do i=$((i+1)); head -c 262144 /dev/zero > file-$i; sleep 0.01; done';
    expect(await run(execute, script, { diskBytes: 4 * MIB })).toMatchObject({ ended: 'over-disk', signal: 'SIGKILL' });
  });

  test('its TMPDIR counts as well', async () => {
    const script = '#!/bin/sh\ncd ../tmp || exit\nhead -c 3000000 /dev/zero > a; head -c 3000000 /dev/zero > b; exec sleep 300';
    expect(await run(execute, script, { diskBytes: 4 * MIB })).toMatchObject({ ended: 'over-disk' });
  });

  test('one file cannot grow beyond what the folder may hold', async () => {
    const processLimits = { fileBytes: 4 * MIB, dataBytes: null };
    const told = await run(execute, 'exec head -c 100000000 /dev/zero > file', { diskBytes: 4 * MIB, processLimits });
    // Whichever sees it first, the kernel or the look at the folder: the run is told that its folder was full.
    expect([told.signal, told.ended === 'over-disk' || told.diskFull]).toEqual(['SIGXFSZ', true]);
  });

  test('without control groups each process has a bound of memory of its own', async () => {
    const processLimits = { fileBytes: null, dataBytes: 32 * MIB };
    const told = await run(execute, EATS_MEMORY, { processLimits });
    expect([told.exitCode, told.stdout, told.stderr]).toEqual([expect.any(Number), '', expect.stringMatching(/^Out of memory/)]);
  });

  test('a script with limits that cannot be executed is told as ever', async () => {
    const processLimits = { fileBytes: MIB, dataBytes: null };
    expect((await run(execute, '#!/nowhere/at-all\n', { processLimits })).exitCode).toBe(127);
  });

  test(`${name} leaves the descriptors of control groups to nobody`, async () => {
    if (Object.values(cgroups).every((one) => typeof one === 'string')) return;
    const told = await limited(execute, 'ls -l /proc/self/fd | grep -c cgroup; true', { pids: 50, cpus: 1, memoryBytes: 64 * MIB });
    expect(told.stdout).toBe('0\n');
  });
});

describe('Control groups', () => {
  withGroups('pids')('that a dead worker left are removed, with what is still in them', async () => {
    const { cgroup, folders, claim, notePath } = open({ pids: 50 });
    const child = spawn('/bin/sh', ['-c', 'echo 0 >&3; exec sleep 300'], {
      stdio: ['ignore', 'ignore', 'ignore', ...cgroup.enter],
    });
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    await until(() => readFileSync(join(folders[0] as string, 'cgroup.procs'), 'utf8').trim() === String(child.pid), 'it to be inside');
    await removeLeftCgroups(notePath, claim);
    expect([await ended, existsSync(folders[0] as string)]).toEqual(['SIGKILL', false]);
    await cgroup.close();
  });

  test('are removed for no note that names another folder', async () => {
    const claim = randomUUID();
    const path = join(folder.path, `builder-${claim}`);
    mkdirSync(path);
    for (const note of [JSON.stringify([path]), JSON.stringify(['/sys/fs/cgroup']), '{}', 'rubbish']) {
      writeFileSync(join(folder.path, 'note'), note);
      await removeLeftCgroups(join(folder.path, 'note'), claim);
    }
    expect(existsSync(path)).toBe(true);
  });

  withGroups('memory')('that cannot be made are a fault, and nothing is left', () => {
    const notePath = join(folder.path, 'nowhere', 'note');
    expect(() => openRunCgroup({ cgroups, spec: asked({ memoryBytes: MIB }), claim: 'x', notePath })).toThrow(/control groups/);
  });
});

describe('What a machine can do', () => {
  const machine = (files: Record<string, string>): string => {
    const path = join(folder.path, randomUUID());
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(path, name, '..'), { recursive: true });
      writeFileSync(join(path, name), text.replaceAll('HERE', path));
    }
    return path;
  };
  const mount = (root: string, point: string, type: string, options: string): string =>
    `30 20 0:26 ${root} ${point} rw,nosuid - ${type} none ${options}\n`;

  test('without any cgroup, every limit that needs one is named', () => {
    const found = findCgroups(machine({ mountinfo: mount('/', '/proc', 'proc', 'rw'), cgroup: '0::/\n' }));
    expect(found).toEqual({ memory: 'no cgroup is mounted', cpu: 'no cgroup is mounted', pids: 'no cgroup is mounted' });
  });

  test('a cgroup v2 without controllers is told apart', () => {
    const proc = machine({ mountinfo: mount('/', 'HERE/cg', 'cgroup2', 'rw'), cgroup: '0::/own\n', 'cg/own/cgroup.controllers': '\n' });
    expect(findCgroups(proc).memory).toBe('cgroup v2 gives it no controllers');
  });

  test('a delegated cgroup v2 is found below a container’s root, also where its path has odd letters', () => {
    const files = { 'c g/app/cgroup.controllers': 'cpuset cpu io memory pids\n', 'c g/app/cgroup.subtree_control': 'cpu memory pids\n' };
    const proc = machine({ mountinfo: mount('/docker', 'HERE/c\\040g', 'cgroup2', 'rw'), cgroup: '0::/docker/app\n', ...files });
    // A plain folder grows no control files, so the try fails there and says which.
    expect(findCgroups(proc).memory).toBe('cgroup v2 has no memory controller here');
  });

  test('a group of v1 is made below the worker’s own', () => {
    const proc = machine({ mountinfo: mount('/', 'HERE/gone', 'cgroup', 'rw,cpu,cpuacct'), cgroup: '3:cpu,cpuacct:/own\n' });
    expect(findCgroups(proc)).toMatchObject({ cpu: 'no cgroup can be made: ENOENT', memory: 'no cgroup is mounted' });
  });
});

describe('A worker that cannot enforce', () => {
  const why = 'no cgroup can be made: EROFS';
  const poor = createLimiter({ memory: why, cpu: why, pids: why }, true);

  test('says what it does not enforce', () => {
    expect(poor.note(asked({ memoryBytes: 512 * MIB, cpus: 2 }))).toBe(
      `not enforced here: memory (${why}; each process by itself may use 512M), cpus (${why})`,
    );
    expect(poor.note(asked({ diskBytes: MIB, network: 'none' }))).toBeNull();
  });

  test('refuses the run that insists', () => {
    expect(poor.refusal(asked({ pids: 5, strictLimits: true }))).toBe(`not enforced here: pids (${why})`);
    expect(poor.refusal(asked({ pids: 5 }))).toBeNull();
    expect(poor.refusal(asked({ strictLimits: true }))).toBeNull();
  });

  test('never runs a script with a network that was to have none', () => {
    expect(createLimiter(cgroups, false).refusal(asked({ network: 'none' }))).toMatch(/^not enforced here: network/);
  });
});

test('what a folder takes is counted once per file, stops at enough, and forgives what vanishes', async () => {
  const path = join(folder.path, 'usage');
  mkdirSync(join(path, 'below'), { recursive: true });
  writeFileSync(join(path, 'below', 'a'), Buffer.alloc(MIB, 1));
  linkSync(join(path, 'below', 'a'), join(path, 'b'));
  symlinkSync('/', join(path, 'out'));
  writeFileSync(Buffer.concat([Buffer.from(`${path}/`), Buffer.from([0xff, 0xfe])]), Buffer.alloc(MIB, 1));
  const bytes = await diskUsage([path, join(path, 'gone')], Number.MAX_SAFE_INTEGER, NEVER);
  expect(bytes).toBeGreaterThanOrEqual(2 * MIB);
  expect(bytes).toBeLessThan(2.5 * MIB);
  rmSync(path, { recursive: true });
});
