/** What a script sees of the machine in the sandboxes that have namespaces. */

import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { createExecutor } from '../../workers/executor.ts';
import { bwrapSandbox } from '../../workers/sandbox/bwrap.ts';
import { noSandbox } from '../../workers/sandbox/none.ts';
import { createSlots, type Slots } from '../../workers/sandbox/slots.ts';
import { alive, describeUnder, executorsHere, removeRuns, run, runsFolder } from '../support/executing.ts';
import { until } from '../support/until.ts';

const executors = await executorsHere(['bwrap', 'unshare']);
afterAll(removeRuns);

describeUnder(executors, 'Under %s', (_name, execute) => {
  test('a script sees the processes of its own run only, and its init as PID 1', async () => {
    const told = await run(
      execute,
      'cat /proc/1/cmdline | tr "\\0" " "; echo; echo /proc/[0-9]*; read pid name state parent rest </proc/1/stat; echo $parent',
    );
    expect(told.stdout).toMatch(/^(\/usr\/bin\/perl .*|builder-init-of BUILDER_CLAIM=\S+ )\n\/proc\/1 \/proc\/\d+\n0\n$/);
  });

  test('without network only the loopback interface is there, and up', async () => {
    const told = await run(execute, 'cd /sys/class/net; tail -n +3 /proc/net/dev | cut -d: -f1; grep -c . /proc/net/fib_trie', {
      network: 'none',
    });
    expect(told.stdout).toMatch(/^\s*lo\n[1-9]/);
  });

  test.each([
    ['an init', 1],
    ['what started an init', 2],
  ])('%s that is killed from outside takes the run with it, which is told as a fault', async (_whose, above) => {
    const claim = randomUUID();
    const mark = `BUILDER_CLAIM=${claim}`;
    const onText = (): void => {
      let pid = alive(mark).find((one) => readFileSync(`/proc/${one}/comm`, 'utf8') === 'sh\n');
      for (let step = 0; step < above; step += 1) pid = parentOf(pid);
      process.kill(Number(pid), 'SIGKILL');
    };
    let broken = 0;
    const running = run(execute, 'echo ready; setsid sleep 300; exit 0', {
      mark,
      onText,
      onBroken: () => {
        broken += 1;
      },
      env: { PATH: '/usr/bin:/bin', BUILDER_CLAIM: claim },
    });
    await expect(running).rejects.toMatchObject({ code: 'internal' });
    expect(broken).toBe(1);
    await until(() => alive(mark).length === 0, 'the end of the run');
    expect(await run(execute, 'echo on')).toMatchObject({ exitCode: 0, stdout: 'on\n' });
  });
});

function parentOf(pid: string | undefined): string | undefined {
  return /\) \w (\d+) /.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];
}

describeUnder(
  executors.filter(([name]) => name.startsWith('bwrap')),
  'Under %s',
  (_name, execute) => {
    test('the host is read-only, the folder, TMPDIR and /tmp can be written, other runs and hidden folders are out of sight', async () => {
      const secret = join(runsFolder(), '..', 'secret');
      mkdirSync(secret, { recursive: true });
      writeFileSync(join(secret, 'token'), 'x');
      // What a shell hands over by <( ) has no place, and no script has it.
      const holder = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
      const hide = [runsFolder(), secret, `/proc/${holder.pid}/fd/0`, '/proc/version'];
      await run(execute, 'exit 0');
      const lines = [
        'touch here /tmp/there /dev/shm/there',
        `touch /etc/builder-was-here 2>&1 && echo written`,
        `ls ${secret} | wc -l`,
        'ls ../.. | wc -l',
        `touch ../../new ${secret}/new 2>/dev/null && echo written`,
        'echo end',
      ];
      const told = await run(execute, `#!/bin/sh\n${lines.join('\n')}\n`, { hide });
      holder.kill();
      expect(told.stdout).toMatch(/^touch: .*Read-only file system\n0\n1\nend\n$/);
      expect(existsSync('/tmp/there')).toBe(false);
    });

    test('what is hidden may lie in a folder for temporary files, of which each run has its own', async () => {
      const hidden = ['/tmp', '/var/tmp'].map((at) => mkdtempSync(`${at}/builder-test-`));
      for (const folder of hidden) mkdirSync(`${folder}/sub/file`, { recursive: true });
      try {
        const hide = [runsFolder(), ...hidden, `${hidden[0]}/sub`];
        const told = await run(execute, `ls ${hidden.map((folder) => `${folder}/sub`).join(' ')} 2>/dev/null || echo gone`, { hide });
        expect(told).toMatchObject({ stdout: 'gone\n', exitCode: 0 });
      } finally {
        for (const folder of hidden) rmSync(folder, { recursive: true });
      }
    });

    test('nothing of one run is there for the next, in memory neither', async () => {
      const leave = 'touch /dev/shm/left /tmp/left /var/tmp/left; ipcmk --queue >/dev/null; echo done';
      const look = 'ls /dev/shm /tmp /var/tmp | grep left || :; ipcs --queues | grep -c 0x || :';
      for (const script of [leave, look]) {
        const told = await Promise.all(Array.from({ length: 3 }, () => run(execute, script)));
        expect(new Set(told.map(({ stdout }) => stdout))).toEqual(new Set([script === leave ? 'done\n' : '0\n']));
      }
    });

    test('root can set nothing of the kernel, and mount nothing', async () => {
      const lines = [
        'cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness && echo set',
        'unshare --user --map-root-user sh -c "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness && echo set in a namespace of its own"',
        'mount -t tmpfs none /mnt && echo mounted',
        'umount /proc && echo unmounted',
        'echo end',
      ];
      expect((await run(execute, `#!/bin/sh\n${lines.join('\n')}\n`)).stdout).toBe('end\n');
    });

    test('a wrapper that fails does so before the script has begun', async () => {
      const failing = join(runsFolder(), '..', 'failing');
      writeFileSync(failing, '#!/bin/sh\necho no namespace >&2\nexit 1\n', { mode: 0o755 });
      const onBroken = (): void => {
        throw new Error('it has not begun');
      };
      const executed = run(createExecutor(bwrapSandbox(failing, createSlots())), 'true', { onBroken });
      await expect(executed).rejects.toMatchObject({ code: 'internal', message: expect.stringContaining('no namespace') });
    });

    test('letters that come when init has told its last spoil no later run of the slot', async () => {
      const slots = tooLate(createSlots());
      const late = createExecutor(bwrapSandbox('/usr/bin/bwrap', slots));
      for (const word of ['one', 'two', 'three']) {
        expect(await run(late, `echo ${word}`)).toMatchObject({ stdout: `${word}\n`, exitCode: 0, killed: [] });
      }
    });
  },
);

/** Slots to which the worker speaks once more when the run is over. */
function tooLate(slots: Slots): Slots {
  return {
    take: async () => {
      const slot = await slots.take();
      const listen: typeof slot.listen = ({ onLine, onEnd }) => {
        const speakAgain = (line: string): void => {
          if (line.startsWith('done')) slot.send('tk');
          onLine(line);
        };
        slot.listen({ onLine: speakAgain, onEnd });
      };
      return { ...slot, listen };
    },
  };
}

test('a wrapper that fails spoils no later run', async () => {
  const slots = createSlots();
  await expect(run(createExecutor(bwrapSandbox('/bin/false', slots)), 'true')).rejects.toMatchObject({ code: 'internal' });
  const none = createExecutor(noSandbox(slots));
  const told = await Promise.all(['one', 'two'].map((word) => run(none, `echo ${word}`)));
  expect(told.map(({ stdout, exitCode }) => [stdout, exitCode])).toEqual([
    ['one\n', 0],
    ['two\n', 0],
  ]);
});

test('a signal that comes while a slot is given its run breaks nothing', async () => {
  const execute = createExecutor(noSandbox(createSlots()));
  const children = (): string[] => readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean);
  const before = new Set(children());
  await run(execute, 'true');
  const [slot] = children().filter((pid) => !before.has(pid));
  const env = { PATH: '/usr/bin:/bin', LONG: 'x'.repeat(100_000), LONGER: 'y'.repeat(100_000) };
  for (let count = 0; count < 20; count += 1) {
    const running = run(execute, 'echo "$LONG" | wc -c', { env });
    for (let signals = 0; signals < 20; signals += 1) {
      process.kill(Number(slot), 'SIGCHLD');
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await running).toMatchObject({ stdout: '100001\n', exitCode: 0 });
  }
});

test('init is strict in both its halves, though it does not say so', () => {
  const halves = readFileSync('workers/sandbox/init.pl', 'utf8').split('__DATA__\n');
  expect(halves).toHaveLength(2);
  const checked = spawnSync('/usr/bin/perl', ['-Mstrict', '-c'], { input: halves.join(''), encoding: 'utf8' });
  expect(checked).toMatchObject({ status: 0, stderr: expect.stringContaining('syntax OK') });
});
