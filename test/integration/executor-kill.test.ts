/** A run is over when its last process is dead: under every sandbox that works on this machine, with real processes. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import {
  alive,
  cancelled,
  describeUnder,
  executorsHere,
  openDescriptors,
  removeRuns,
  run,
  runsFolder,
  SCRIPTS,
} from '../support/executing.ts';
import { until } from '../support/until.ts';

const executors = await executorsHere();
afterAll(removeRuns);

describeUnder(executors, 'Under %s, asked to end:', (_name, execute) => {
  test('a script that traps SIGTERM has its grace, and what it says then is kept', async () => {
    const told = await run(execute, 'traps-term.sh', { timeoutMs: 500, graceMs: 20_000 });
    expect(told).toMatchObject({ ended: 'timed-out', exitCode: 9, signal: null, stdout: 'ready\nleaving\n' });
    expect(told.tookMs).toBeLessThan(10_000);
  });

  test('a script that ignores SIGTERM is killed after its grace', async () => {
    const told = await cancelled(execute, 'ignores-term.sh', { graceMs: 300 });
    expect(told).toMatchObject({ ended: 'cancelled', exitCode: null, signal: 'SIGKILL' });
    expect(told.tookMs).toBeGreaterThan(300);
    expect(alive(told.mark)).toEqual([]);
  });

  test('a child has the grace too when its leader dies of SIGTERM at once', async () => {
    const told = await cancelled(execute, 'child-cleans-up.sh', { graceMs: 20_000 });
    expect(told).toMatchObject({ ended: 'cancelled', signal: 'SIGTERM', stdout: 'ready\ncleaned\n', killed: [], outputHeld: false });
    expect(told.tookMs).toBeLessThan(10_000);
  });

  test('a child that ignores SIGTERM is killed after the grace, and named', async () => {
    const told = await cancelled(execute, 'child-ignores-term.sh', { graceMs: 300 });
    expect(told).toMatchObject({ ended: 'cancelled', signal: 'SIGTERM', outputHeld: false });
    expect(told.killed.map((one) => one.command)).toContainEqual(expect.stringMatching(/^\/bin\/sh -e .*\/script\.sh$/));
    expect(alive(told.mark)).toEqual([]);
  });

  test('a cancellation reaches every process of the run', async () => {
    const told = await cancelled(execute, 'leaves-deep.sh', { graceMs: 20_000 });
    expect(told).toMatchObject({ ended: 'cancelled', signal: 'SIGTERM', killed: [] });
    expect(alive(told.mark)).toEqual([]);
  });

  test('a cancellation before the start starts nothing, one in the same moment ends it', async () => {
    expect(await run(execute, 'echo x', { cancel: AbortSignal.abort() })).toMatchObject({
      ended: 'cancelled',
      exitCode: null,
      signal: null,
      stdout: '',
    });
    const cancel = new AbortController();
    const running = run(execute, 'sleep 300', { cancel: cancel.signal });
    cancel.abort();
    const told = await running;
    expect(told.ended).toBe('cancelled');
    expect(alive(told.mark)).toEqual([]);
  });
});

describeUnder(executors, 'Under %s, left behind:', (_name, execute) => {
  test.each(['leaves-daemon.sh', 'leaves-double-fork.sh'])('nothing of %s is left, and what was killed is named', async (script) => {
    const told = await run(execute, script);
    expect(told).toMatchObject({ exitCode: 0, ended: 'exited', outputHeld: false });
    expect(told.killed).toEqual([{ pid: expect.any(Number), command: expect.stringMatching(/sleep|^\[sh\]$/) }]);
    expect(alive(told.mark)).toEqual([]);
  });

  test('a stopped process is ended, by its SIGTERM or by SIGKILL', async () => {
    expect(await cancelled(execute, 'leaves-stopped.sh', { graceMs: 20_000 })).toMatchObject({
      ended: 'cancelled',
      signal: 'SIGTERM',
      killed: [],
    });
    const text = readFileSync(join(SCRIPTS, 'leaves-stopped.sh'), 'utf8');
    const told = await run(execute, `set -- exit\n${text}`);
    expect(told).toMatchObject({ ended: 'exited', exitCode: 0 });
    expect(told.killed.length).toBe(1);
    expect(alive(told.mark)).toEqual([]);
  });

  test('processes that appear while the run is being ended are ended with it', async () => {
    const told = await cancelled(execute, 'forks-on-term.sh', { graceMs: 1_000 });
    expect(told).toMatchObject({ ended: 'cancelled', signal: 'SIGKILL' });
    expect(told.killed.length).toBeGreaterThan(40);
    expect(alive(told.mark)).toEqual([]);
    const bomb = await run(execute, 'forks-on.sh');
    expect(bomb).toMatchObject({ ended: 'exited', exitCode: 0 });
    expect(bomb.killed.length).toBeGreaterThan(10);
    expect(bomb.killed.length).toBeLessThanOrEqual(limits.killedListedMax);
    expect(alive(bomb.mark)).toEqual([]);
  });

  test('a process that is a new one again and again is ended', async () => {
    for (let round = 0; round < 3; round += 1) {
      const told = await run(execute, 'renews-itself.sh');
      expect(told).toMatchObject({ ended: 'exited', exitCode: 0 });
      const lock = join(runsFolder(), told.mark.replace('BUILDER_CLAIM=', ''), 'home', 'lock');
      expect(spawnSync('flock', ['--nonblock', lock, 'true'])).toMatchObject({ status: 0 });
    }
  });

  test('a child that holds the output delays the end by a bound, and is named', async () => {
    const told = await run(execute, 'holds-output.sh');
    expect(told).toMatchObject({ exitCode: 0, ended: 'exited', stdout: 'done\n', outputHeld: true, killed: [{ command: 'sleep 300' }] });
    expect(told.tookMs).toBeGreaterThan(limits.outputHoldMs);
  });

  test('a child that holds the output for a moment is waited for', async () => {
    expect(await run(execute, 'holds-output-shortly.sh')).toMatchObject({ stdout: 'early\nlate\n', outputHeld: false, killed: [] });
  });
});

describeUnder(
  executors.filter(([name]) => name === 'none'),
  'Under %s, with nothing between a script and what started it:',
  (_name, execute) => {
    test('one that kills that is a fault, and what it has left is ended all the same', async () => {
      const marks: string[] = [];
      const onText = (text: string): void => void marks.push(text.trim());
      const killer = 'setsid sleep 300 </dev/null >/dev/null 2>&1 & echo BUILDER_CLAIM=$BUILDER_CLAIM; sleep 0.1; kill -9 $PPID; sleep 300';
      await expect(run(execute, killer, { onText })).rejects.toMatchObject({
        code: 'internal',
        message: expect.stringContaining('to outlive the script'),
      });
      expect(marks).toEqual([expect.stringMatching(/^BUILDER_CLAIM=./)]);
      expect(alive(marks[0] as string)).toEqual([]);
      expect(await run(execute, 'echo on')).toMatchObject({ exitCode: 0, stdout: 'on\n' });
    });

    test('one that stops that is ended all the same once its time is over, or its disk is full', async () => {
      const stopper = 'echo BUILDER_CLAIM=$BUILDER_CLAIM; kill -STOP $PPID';
      const marks: string[] = [];
      const onText = (text: string): void => void marks.push(text.trim());
      const [late, large] = await Promise.all([
        run(execute, `${stopper}; sleep 300`, { onText, timeoutMs: 300, graceMs: 100 }),
        run(execute, `${stopper}; head -c 8388608 /dev/zero > large; sleep 300`, { onText, diskBytes: 1024 * 1024 }),
      ]);
      expect(late).toMatchObject({ ended: 'timed-out', exitCode: null });
      expect(large).toMatchObject({ ended: 'over-disk', exitCode: null, signal: 'SIGKILL' });
      expect(marks).toHaveLength(2);
      for (const mark of marks) expect(alive(mark)).toEqual([]);
    });
  },
);

describeUnder(
  executors.filter(([name]) => name.startsWith('bwrap')),
  'Under %s, PID 1:',
  (_name, execute) => {
    test('shows a script nothing of what it has open, and gives it none of it', async () => {
      // pidfd_open(2), pidfd_getfd(2): the socket with the worker.
      const take = `perl -e '$pidfd = syscall(434, 1, 0); print syscall(438, $pidfd, 3, 0) < 0 ? "refused" : "taken"'`;
      const told = await run(execute, `for fd in /proc/1/fd/*; do readlink $fd || :; done; ${take}`);
      expect(told).toMatchObject({ exitCode: 0, stdout: 'refused' });
    });
  },
);

describeUnder(executors, 'Under %s, many runs:', (_name, execute) => {
  test('fifty runs leave no descriptor and no process', async () => {
    // Each slot stays, with its socket, and has two pipes for its next run, soon if not yet.
    await Promise.all(Array.from({ length: 5 }, () => run(execute, 'sleep 0.2')));
    const before = await until(() => openDescriptors(), 'a count');
    const runs = [];
    for (let round = 0; round < 10; round += 1) runs.push(...(await Promise.all(Array.from({ length: 5 }, () => run(execute, 'echo x')))));
    expect(runs.every((told) => told.exitCode === 0 && told.stdout === 'x\n')).toBe(true);
    await until(() => openDescriptors() <= before + 2 * 5, `${before} descriptors`);
    expect(runs.flatMap((told) => alive(told.mark))).toEqual([]);
  });

  test('two runs at a time end each its own processes only', async () => {
    const cancel = new AbortController();
    const long = run(execute, 'setsid sleep 300 & echo ready; wait', { cancel: cancel.signal });
    const short = await run(execute, 'leaves-daemon.sh');
    expect(short.killed.length).toBe(1);
    cancel.abort();
    expect(await long).toMatchObject({ ended: 'cancelled', signal: 'SIGTERM' });
  });
});
