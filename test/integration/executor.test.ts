/** How a script ends and what it says, under every sandbox that works on this machine, with real processes. */

import { createHash, randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, test } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { chooseSandbox } from '../../workers/sandbox/choose.ts';
import { alive, describeUnder, executorsHere, removeRuns, run, runsFolder } from '../support/executing.ts';

const executors = await executorsHere();
afterAll(removeRuns);

test('Auto takes the best sandbox that works here', async () => {
  expect((await chooseSandbox('auto', runsFolder())).name).toBe(executors[0]?.[0]);
});

describeUnder(executors, 'Under %s', (_name, execute) => {
  test.each([0, 1, 7, 137, 143, 255])('exit code %i is told as it is', async (code) => {
    expect(await run(execute, `exit ${code}`)).toMatchObject({
      exitCode: code,
      signal: null,
      ended: 'exited',
      killed: [],
      outputHeld: false,
    });
  });

  test.each(['SIGTERM', 'SIGKILL', 'SIGSEGV', 'SIGINT', 'SIGFPE', 'SIGUSR1'])(
    'a script that ends itself by %s is told from an exit code',
    async (signal) => {
      expect(await run(execute, `kill -${signal.slice(3)} $$`)).toMatchObject({ exitCode: null, signal, ended: 'exited', killed: [] });
    },
  );

  test('a script without #! stops at the first command that fails, one with #! is executed itself', async () => {
    expect(await run(execute, 'false\necho on\n')).toMatchObject({ exitCode: 1, stdout: '' });
    expect(await run(execute, '#!/bin/sh\nfalse\necho on\n')).toMatchObject({ exitCode: 0, stdout: 'on\n' });
    expect(await run(execute, '#!/usr/bin/perl\nprint "$0 @ARGV"; exit 3;\n')).toMatchObject({
      exitCode: 3,
      stdout: expect.stringMatching(/script\.sh $/),
    });
  });

  test('an interpreter that does not exist ends with 127 and says so', async () => {
    // As with a shell: what names no interpreter is for /bin/sh.
    expect(await run(execute, '#!\necho "$0" >&2; exit 4\n')).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('/home/') });
    const told = await run(execute, '#!/no/such/interpreter\n');
    expect(told).toMatchObject({ exitCode: 127, ended: 'exited', stderr: expect.stringMatching(/^builder: .* cannot be executed: .*\n$/) });
  });
});

describeUnder(executors, 'Under %s', (name, execute) => {
  test('the environment is the one that was given, nothing else', async () => {
    const claim = randomUUID();
    const env = { A: 'b c', EMPTY: '', LINES: 'one\ntwo=3\n', UNICODE: 'ä€😀', PERL5OPT: '', BUILDER_CLAIM: claim };
    const told = await run(execute, 'prints-environment.sh', { env, mark: `BUILDER_CLAIM=${claim}` });
    const expected = Object.entries(env)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => `${key}=${value}\n`);
    expect(told.stdout).toBe(expected.join(''));
  });

  test('its folder is the working directory, its standard input empty, and it has no other descriptor', async () => {
    const told = await run(execute, 'pwd; readlink /proc/self/fd/0; wc -c');
    expect(told.stdout).toMatch(/\/home\n\/dev\/null\n0\n$/);
    const descriptors = (await run(execute, 'prints-descriptors.sh')).stdout;
    // Without a sandbox it also has what this very process was given by whoever started it.
    expect(name === 'none' ? descriptors.slice(0, 5) : descriptors).toBe(name === 'none' ? '0 1 2' : '0 1 2\n');
  });
});

describeUnder(executors, 'Under %s the output:', (_name, execute) => {
  test('stdout and stderr are apart, and /dev/stdout and /dev/stderr can be opened', async () => {
    expect(await run(execute, 'echo a; echo b >&2; echo c >/dev/stdout; echo d >/dev/stderr')).toMatchObject({
      stdout: 'a\nc\n',
      stderr: 'b\nd\n',
    });
  });

  test('what was said before a SIGKILL is kept, without a newline and by megabytes', async () => {
    expect(await run(execute, 'no-final-newline.sh')).toMatchObject({ stdout: 'x', signal: 'SIGKILL' });
    const much = await run(execute, 'writes-much-then-dies.sh');
    expect(much.signal).toBe('SIGKILL');
    expect(much.stdout.length).toBe(5 * 1024 * 1024);
  });

  test('a taker of output that is slow makes the script wait, with a bounded amount at a time, and gets all of it in order', async () => {
    let takingBytes = 0;
    let mostBytes = 0;
    const hash = createHash('sha256');
    const told = await run(execute, 'seq 1 1000000', {
      onOutput: async (_, chunk) => {
        hash.update(chunk);
        takingBytes += chunk.length;
        mostBytes = Math.max(mostBytes, takingBytes);
        await delay(5);
        takingBytes -= chunk.length;
      },
    });
    expect(told.exitCode).toBe(0);
    // What libuv has read when it is told to pause comes on top: 64 KiB a pipe at a time.
    expect(mostBytes).toBeLessThanOrEqual(limits.outputTakenBytesMax + 2 * 64 * 1024);
    const text = Array.from({ length: 1_000_000 }, (_, index) => `${index + 1}\n`).join('');
    expect(hash.digest('hex')).toBe(createHash('sha256').update(text).digest('hex'));
  });

  test('what comes on one side overtakes nothing on the other, however slowly it is taken', async () => {
    // In its own folder, which it sees under every sandbox.
    const waits = (step: number): string => `until [ -e go-${step} ]; do sleep 0.01; done`;
    const seen: string[] = [];
    const taken: (() => void)[] = [];
    await run(execute, `pwd; ${waits(1)}; echo b; ${waits(2)}; echo c >&2; ${waits(3)}; echo d`, {
      onOutput: async (source, chunk) => {
        seen.push(`${source} ${chunk}`);
        const home = (seen[0] as string).slice('stdout '.length).trim();
        writeFileSync(`${home}/go-${seen.length}`, '');
        // None is taken before all have come.
        if (seen.length === 4) for (const done of taken) done();
        else await new Promise<void>((resolve) => taken.push(resolve));
      },
    });
    expect(seen.slice(1)).toEqual(['stdout b\n', 'stderr c\n', 'stdout d\n']);
  });

  test('last words on one side are not given up while the other is taken slowly', async () => {
    let stalled = false;
    let last = Promise.resolve();
    const said = { stdout: 0, stderr: '' };
    const told = await run(execute, "head -c 620000 /dev/zero | tr '\\0' x; echo the last words >&2", {
      // A disk that stalls for longer than a process that holds the output open would be waited for.
      onOutput: (source, chunk) => {
        last = last.then(async () => {
          if (!stalled) await delay(limits.outputHoldMs + 1_000);
          stalled = true;
          if (source === 'stdout') said.stdout += chunk.length;
          else said.stderr += chunk;
        });
        return last;
      },
    });
    expect([told.outputHeld, said]).toEqual([false, { stdout: 620_000, stderr: 'the last words\n' }]);
  });

  test('a taker of output that fails ends the script, and its error is told', async () => {
    const claim = randomUUID();
    const mark = `BUILDER_CLAIM=${claim}`;
    const onOutput = (): Promise<void> => Promise.reject(new Error('no room'));
    const running = run(execute, 'echo x; sleep 300', { onOutput, mark, env: { PATH: '/usr/bin:/bin', BUILDER_CLAIM: claim } });
    await expect(running).rejects.toThrow('no room');
    expect(alive(mark)).toEqual([]);
  });
});
