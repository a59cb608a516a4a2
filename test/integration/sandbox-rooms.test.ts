/** Rooms of bwrap, in which slots make the namespaces of their runs: what they show, when they are given up, and that nothing of one run is there for the next. */
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { createExecutor, type Executor } from '../../workers/executor.ts';
import { bwrapRooms } from '../../workers/sandbox/bwrap.ts';
import { chooseSandbox } from '../../workers/sandbox/choose.ts';
import { endMarked } from '../../workers/sandbox/marked-processes.ts';
import { alive, removeRuns, run, runsFolder } from '../support/executing.ts';
import { until } from '../support/until.ts';

const folder = resolve(runsFolder(), '..');
const missing = await whyNoRooms();
if (missing !== null) process.stderr.write(`skipped: rooms of bwrap: ${missing}\n`);
const unmountable = missing ?? whyNoMounts();
if (unmountable !== null) process.stderr.write(`skipped: mounts that come and go: ${unmountable}\n`);
afterAll(removeRuns);

async function whyNoRooms(): Promise<string | null> {
  try {
    const told = await run(createExecutor(await chooseSandbox('bwrap', runsFolder())), 'tr "\\0" " " < /proc/1/cmdline');
    return told.stdout.startsWith('builder-init-of ') ? null : 'bwrap is started for each run here';
  } catch (cause) {
    return (cause as Error).message;
  }
}

function whyNoMounts(): string | null {
  if (process.getuid?.() !== 0) return 'only root can mount';
  const tried = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt']);
  return tried.status === 0 ? null : 'root may not mount here';
}

/** With a program in the place of bwrap. */
function rooms(program = '/usr/bin/bwrap', runs = runsFolder()): Executor {
  const sandbox = bwrapRooms(program, runs);
  if (sandbox === null) throw new Error('expected rooms, got a machine that has none');
  return createExecutor(sandbox);
}

/** Has the worker's socket as descriptor 3, as a slot. */
function program(name: string, text: string): string {
  const path = `${folder}/${name}`;
  writeFileSync(path, `${text}\n`, { mode: 0o755 });
  return path;
}

(missing === null ? describe : describe.skip)('A room', () => {
  it('gives no run what another one has set for its session, and lets none change devices', async () => {
    const execute = rooms();
    const change = 'for at in full pts pts/ptmx; do chmod 666 /dev/$at || echo $at; done; echo 19 > /proc/self/autogroup';
    expect((await run(execute, `#!/bin/sh\nexec 2>/dev/null\n${change}\n`)).stdout).toBe('full\npts\npts/ptmx\n');
    const told = await run(
      execute,
      `#!/bin/sh\ncat /proc/self/autogroup 2>/dev/null || echo nice 0\nscript -qec 'test -t 1 && echo typed' /dev/null`,
    );
    expect(told.stdout).toMatch(/nice 0\ntyped\r?\n$/);
  });

  it('whose run is to end though its worker cannot say so ends with all that has cleared its environment', async () => {
    const mark = `BUILDER_CLAIM=${randomUUID()}`;
    const seconds = String(300 + Math.random());
    const left = (): string[] => processes((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`sleep\0${seconds}`));
    const onText = (): void => void endMarked(mark);
    const script = `env -i setsid sleep ${seconds} & until [ "$(pgrep -f 'sleep ${seconds}')" ]; do :; done; env -i echo ready`;
    await expect(run(rooms(), script, { mark, onText, env: { PATH: '/usr/bin:/bin' } })).rejects.toMatchObject({ code: 'internal' });
    await until(() => left().length === 0 && alive(mark).length === 0, 'the end of the run');
  });

  it('that is not made in time, or tells nonsense, fails its run, and the next one has another chance', async () => {
    const broken = rooms(
      program(
        'nonsense',
        `#!/bin/sh\n[ -e ${folder}/sane ] && exec bwrap "$@"; printf 'pipes 999999 5 6\\nstale\\n' >&3; cat <&3 >/dev/null`,
      ),
    );
    for (let count = 0; count < 3; count += 1) await expect(run(broken, 'true')).rejects.toMatchObject({ code: 'internal' });
    writeFileSync(`${folder}/sane`, '');
    expect(await run(broken, 'echo well')).toMatchObject({ stdout: 'well\n' });
    const asleep = run(rooms(program('asleep', '#!/bin/sh\nexec sleep 60')), 'true');
    await expect(asleep).rejects.toMatchObject({ message: expect.stringContaining('not ready after') });
  });

  it('is not waited for without an end where each is given up before it is used', async () => {
    const leave =
      "exec 5</dev/null 6</dev/null; printf 'pipes %d 5 6\\n' $$ >&3; head -c 1 <&3 >/dev/null; echo stale >&3; cat <&3 >/dev/null";
    const restless = rooms(
      program('restless', `#!/bin/sh\ncase " $* " in *' --as-pid-1 '*) exec bwrap "$@";; esac\necho >> ${folder}/left\n${leave}`),
    );
    expect(await run(restless, 'echo well')).toMatchObject({ stdout: 'well\n', exitCode: 0 });
    expect(readFileSync(`${folder}/left`, 'utf8')).toHaveLength(limits.staleSlotsMax);
  });

  it('is given up where the folder of the runs is another one', async () => {
    const execute = rooms();
    const write = 'touch here && echo written';
    expect(await run(execute, write)).toMatchObject({ stdout: 'written\n' });
    rmSync(runsFolder(), { recursive: true });
    expect(await run(execute, write)).toMatchObject({ stdout: 'written\n' });
  });
});

(unmountable === null ? describe : describe.skip)('A room, where mounts come and go,', () => {
  // Not where each run has its own: the checkout may lie below /tmp.
  let disk = '';
  beforeAll(() => {
    disk = mkdtempSync('/run/builder-test-');
  });
  afterAll(() => rmdirSync(disk));

  it('is given up for one that shows what is mounted when its run begins, and is in the way of no unmounting', async () => {
    const execute = rooms();
    const seen = async (): Promise<string[]> => {
      const told = await Promise.all(Array.from({ length: 4 }, () => run(execute, `ls ${disk}`)));
      return [...new Set(told.map(({ stdout }) => stdout))];
    };
    expect(await seen()).toEqual(['']);
    for (let round = 0; round < 3; round += 1) {
      mount('-t', 'tmpfs', 'builder-test', disk);
      writeFileSync(`${disk}/file-${round}`, '');
      expect(await seen()).toEqual([`file-${round}\n`]);
      umount(disk);
      expect(await seen()).toEqual(['']);
      await until(
        () => processes((pid) => readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(` ${disk} `)).length === 0,
        'nobody to have it',
      );
    }
  });

  it('overlooks none that is mounted while it is made', async () => {
    // Between what bwrap mounts and the slot it waits.
    const wait = `touch ${runsFolder()}/made; until [ -e ${folder}/go ]; do sleep 0.02; done; exec "$@"`;
    const lines = [
      '#!/usr/bin/perl',
      "my ($end) = grep { $ARGV[$_] eq '--' } 0 .. $#ARGV;",
      `splice @ARGV, $end + 1, 0, '/bin/sh', '-c', '${wait}', 'sh';`,
    ];
    const execute = rooms(program('slowly', [...lines, "exec 'bwrap', @ARGV;"].join('\n')));
    const running = run(execute, `ls ${disk}`);
    await until(() => existsSync(`${runsFolder()}/made`), 'the room to be made');
    mount('-t', 'tmpfs', 'builder-test', disk);
    writeFileSync(`${disk}/file`, '');
    writeFileSync(`${folder}/go`, '');
    try {
      expect(await running).toMatchObject({ stdout: 'file\n' });
    } finally {
      umount(disk);
    }
  });

  it('lets nothing in that is mounted while its run goes on', async () => {
    mount('-t', 'tmpfs', 'builder-test', disk);
    mount('--make-shared', disk);
    mkdirSync(`${disk}/sub`);
    try {
      const execute = rooms();
      const onText = (): void => {
        mount('-t', 'tmpfs', 'builder-test', `${disk}/sub`);
        writeFileSync(`${disk}/sub/seen`, '');
        writeFileSync(`${disk}/go`, '');
      };
      const told = await run(execute, `echo ready; until [ -e ${disk}/go ]; do sleep 0.02; done; ls ${disk}/sub`, { onText });
      expect(told.stdout).toBe('ready\n');
    } finally {
      spawnSync('umount', [`${disk}/sub`]);
      umount(disk);
    }
  });
});

function mount(...args: string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
}

function umount(at: string): void {
  expect(spawnSync('umount', [at]).status).toBe(0);
}

/** PIDs of those that live, of which it is so. */
function processes(isSo: (pid: string) => boolean): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && isSo(pid);
    } catch {
      return false;
    }
  });
}
