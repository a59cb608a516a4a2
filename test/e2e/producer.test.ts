import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Run } from '../../src/job/run.ts';
import { sha256Of } from '../support/contents.ts';
import { runOf, type System, startSystem } from '../support/system.ts';
import { until } from '../support/until.ts';

let system: System;

beforeAll(async () => {
  system = await startSystem('--concurrency', '4');
});

afterAll(() => system.stop());

const file = (name: string, content: string): string => {
  const path = `${system.folder.path}/${name}`;
  writeFileSync(path, content);
  return path;
};
const id = async (...args: string[]): Promise<string> => (await system.builder(...args)).stdout.trim();
const finished = (run: string) =>
  until(async () => ((await runOf(system, run)).state === 'finished' ? runOf(system, run) : null), `${run} to end`);

const newest = async (): Promise<Run> => {
  const [run] = (await system.json('runs', '--limit', '1')).runs;
  if (run === undefined) throw new Error('expected a run, got none');
  return run;
};

describe('up', () => {
  it('says in one line that it serves, and where', () => {
    expect(system.up.stdout.trim().split('\n')).toHaveLength(1);
    expect(system.up.stderr).toBe('');
  });

  it('tells the producer’s commands how to reach it, and nobody else', () => {
    expect(JSON.parse(readFileSync(`${system.dir}/client.json`, 'utf8'))).toEqual({ server: system.url, token: system.token });
    for (const path of ['data/client.json', 'config/builder/client.json'])
      expect(statSync(`${system.folder.path}/${path}`).mode & 0o777).toBe(0o600);
  });

  it('refuses a folder that another one has, and a port in use', async () => {
    const twice = await system.builder('up', '--data', system.dir, '--port', '0');
    expect([twice.code, twice.stderr]).toEqual([
      78,
      expect.stringMatching(/^builder up: expected a data folder that no other builder uses, got .*\n$/),
    ]);
    const port = new URL(system.url).port;
    const taken = await system.builder('up', '--data', `${system.folder.path}/other`, '--port', port, '--platform', 'test');
    expect([taken.code, taken.stderr]).toEqual([78, expect.stringContaining(port)]);
    expect(taken.stderr.trim().split('\n')).toHaveLength(1);
  });

  it('refuses a data folder that cannot be one', async () => {
    const path = file('a-file', '');
    const refused = await system.builder('up', '--data', `${path}/data`, '--port', '0');
    expect([refused.code, refused.stderr]).toEqual([78, expect.stringMatching(/^builder up: expected a folder that can be written.*\n$/)]);
  });
});

describe('run', () => {
  it.each([
    ['true', 0],
    ['exit 7', 7],
    ['exit 137', 137],
    ['kill -TERM $$', 143],
    ['kill -9 $$', 137],
  ])('-c %p ends with %d', async (command, code) => {
    expect((await system.builder('run', '-c', command)).code).toBe(code);
  });

  it('shows what the script writes, in a folder and environment of its own', async () => {
    const script = 'echo "$PWD" = "$HOME"; ls -A; env | sed "s/=.*//" | sort | tr "\\n" " "; echo; cat; echo to stderr >&2';
    const run = await system.start(['run', '-c', script, '--env', 'MINE=1'], { env: { LEAK: 'x' } }).ended;
    expect(run.code).toBe(0);
    const lines = run.stdout.split('\n');
    const [pwd, home] = (lines[0] ?? '').split(' = ');
    expect(pwd).toBe(home);
    expect(lines[1]).toBe('script.sh');
    expect(
      lines[2]
        ?.trim()
        .split(' ')
        .filter((name) => !['_', 'PWD', 'OLDPWD', 'SHLVL'].includes(name)),
    ).toEqual([
      'BUILDER_ATTEMPT',
      'BUILDER_CLAIM',
      'BUILDER_JOB',
      'BUILDER_PLATFORM',
      'BUILDER_RUN_ID',
      'HOME',
      'LANG',
      'MINE',
      'PATH',
      'TMPDIR',
    ]);
    expect(lines).toContain('to stderr');
  });

  it('keeps the last bytes before a kill', async () => {
    expect((await system.builder('run', '-c', 'printf x; kill -9 $$')).stdout).toBe('x\n');
  });

  it('ends a script that takes too long, with what it wrote and left', async () => {
    const run = await system.builder(
      'run',
      '-c',
      'trap "echo told" TERM; echo kept > file; while :; do sleep 0.05; done',
      '--timeout',
      '500ms',
      '--grace',
      '300ms',
      '--json',
    );
    expect(run.code).toBe(124);
    expect(run.stdout).toContain('"text":"told"');
    const last = await newest();
    expect(last).toMatchObject({ outcome: 'timed-out', artifactCount: 1 });
  });

  it('reads a script from a file, with an interpreter of its own, and from its standard input', async () => {
    const perl = file('script.pl', '#!/usr/bin/perl\nprint "perl $0\\n";\n');
    expect((await system.builder('run', perl)).stdout).toContain('perl');
    expect((await system.start(['run', '-'], { input: 'echo from stdin' }).ended).stdout).toBe('from stdin\n');
  });

  it('detached prints the id alone', async () => {
    expect(await id('run', '--detach', '-c', 'true')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('stops a plain script at its first failing command', async () => {
    expect(await system.builder('run', '-c', 'false\necho never')).toMatchObject({ code: 1, stdout: '' });
  });
});

describe('retries', () => {
  const retried = ['--retries', '3', '--backoff', '100ms..200ms'];

  it('go on by themselves until one succeeds, each attempt with a log of its own', async () => {
    const run = await system.builder('run', '-c', 'echo attempt $BUILDER_ATTEMPT; test $BUILDER_ATTEMPT = 3', ...retried);
    expect(run).toMatchObject({ code: 0, stdout: expect.stringContaining('attempt 3\n') });
    const last = await newest();
    expect(last).toMatchObject({ outcome: 'succeeded', attempt: 3 });
    expect(last.attempts.map(({ outcome, exitCode }) => [outcome, exitCode])).toEqual([
      ['failed', 1],
      ['failed', 1],
      ['succeeded', 0],
    ]);
    expect((await system.builder('observe', last.id)).stdout).toContain('attempt 3\n');
  });

  it('end with the last outcome when they are used up, and are told in the log', async () => {
    const run = await system.builder('run', '-c', 'exit 7', '--retries', '1', '--backoff', '0s');
    expect(run.code).toBe(7);
    expect(await newest()).toMatchObject({ outcome: 'failed', exitCode: 7, attempt: 2 });
    expect(run.stdout).toContain('builder: failed; retry 1 of 1 in 0s\n');
  });

  it('leave alone what they were not asked for, and wait no longer once cancelled', async () => {
    expect((await system.builder('run', '-c', 'exit 7', ...retried, '--retry-on', 'signalled,timed-out')).code).toBe(7);
    expect(await newest()).toMatchObject({ outcome: 'failed', attempt: 1 });
    const run = await id('run', '--detach', '-c', 'exit 7', '--retries', '5', '--backoff', '1h');
    await until(async () => (await runOf(system, run)).state === 'delayed', 'the run to wait for its retry');
    expect((await system.builder('cancel', run)).code).toBe(0);
    expect(await runOf(system, run)).toMatchObject({ state: 'finished', outcome: 'cancelled' });
    expect((await system.builder('run', '-c', 'true', '--retry-on', 'succeeded')).code).toBe(2);
  });
});

describe('inputs and artifacts', () => {
  it('go in and come back with their digests, and overlap is told', async () => {
    mkdirSync(`${system.folder.path}/tree/sub`, { recursive: true });
    file('tree/sub/deep.txt', 'deep');
    chmodSync(file('tree/tool', '#!/bin/sh\necho tool ran\n'), 0o755);
    const plain = file('plain.txt', 'plain');
    const command =
      './tree/tool; cat renamed.txt; echo more >> tree/sub/deep.txt; cp renamed.txt copy.txt; mkdir out; echo made > out/made.txt';
    const run = await system.builder(
      'run',
      '-c',
      command,
      '--input',
      `${system.folder.path}/tree`,
      '--input',
      `${plain}=renamed.txt`,
      '--json',
    );
    expect(run.code).toBe(0);
    const last = await newest();
    const { artifacts } = await system.json('artifacts', last.id);
    const table = Object.fromEntries(artifacts.map((one) => [one.path, [one.input, one.sameAs]]));
    expect(table).toEqual({
      'copy.txt': [null, 'renamed.txt'],
      'out/made.txt': [null, null],
      'renamed.txt': ['unchanged', null],
      'tree/sub/deep.txt': ['changed', null],
      'tree/tool': ['unchanged', null],
    });
    expect(run.stdout).toContain('artifact copy.txt has the content of the input renamed.txt');
    expect(last.artifactCount).toBe(3);
    const out = `${system.folder.path}/download`;
    expect((await system.builder('download', last.id, '-o', out)).code).toBe(0);
    expect(readFileSync(`${out}/out/made.txt`, 'utf8')).toBe('made\n');
    expect(readFileSync(`${out}/tree/sub/deep.txt`, 'utf8')).toBe('deepmore\n');
    expect((await system.builder('download', last.id, 'tree/tool', '-o', out)).code).toBe(0);
    expect(statSync(`${out}/tree/tool`).mode & 0o777).toBe(0o755);
    expect((await system.builder('download', last.id, 'nothing', '-o', out)).code).toBe(66);
  });

  it('are kept whatever the outcome', async () => {
    for (const [command, outcome] of [
      ['echo x > kept; exit 3', 'failed'],
      ['echo x > kept; kill -9 $$', 'signalled'],
    ] as const) {
      await system.builder('run', '-c', command);
      expect(await newest()).toMatchObject({ outcome, artifactCount: 1 });
    }
  });
});

describe('a job', () => {
  it('is scheduled, executed, observed, shown, moved and removed', async () => {
    const script = file('job.sh', 'echo line 1\necho line 2 >&2\necho result > result.txt\n');
    expect((await system.builder('schedule', 'nightly', 'test', script, '--cron', '30 2 * * *', '--tz', 'Europe/Berlin')).code).toBe(0);
    const info = await system.json('info');
    expect(info.schedule).toContainEqual(
      expect.objectContaining({ job: 'nightly', cron: '30 2 * * *', tz: 'Europe/Berlin', paused: false }),
    );

    const followed = await system.builder('execute', 'nightly', '--follow');
    expect(followed).toMatchObject({ code: 0, stdout: 'line 1\nline 2\n' });
    const latest = await system.builder('observe-latest', '--job', 'nightly');
    expect(latest).toMatchObject({ code: 0, stdout: 'line 1\nline 2\n' });
    const run = await newest();
    expect(run).toMatchObject({
      job: 'nightly',
      trigger: 'execute',
      state: 'finished',
      outcome: 'succeeded',
      exitCode: 0,
      signal: null,
      attempt: 1,
    });
    expect((await system.builder('observe', run.id.slice(0, 8), '--from', '2')).stdout).toBe('line 2\n');
    expect(await system.json('show', run.id)).toEqual(run);
    expect(run.log).toMatchObject({ lines: 2, sha256: sha256Of('line 1\nline 2\n'), truncated: false });

    const used = await system.builder('schedule', 'nightly', 'test', script);
    expect([used.code, used.stderr]).toEqual([2, expect.stringContaining('nightly')]);
    expect((await system.builder('reschedule', 'nightly', '2031-01-01T06:00:00+01:00')).code).toBe(0);
    const moved = (await system.json('info')).schedule.find((one) => one.job === 'nightly');
    expect(Date.parse(moved?.next ?? '')).toBeLessThanOrEqual(Date.parse('2031-01-01T05:00:00Z'));
    expect((await system.builder('reschedule', 'nightly', '2001-01-01T06:00:00Z')).code).toBe(2);
    expect((await system.builder('unschedule', 'nightly')).code).toBe(0);
    expect((await system.builder('unschedule', 'nightly')).code).toBe(66);
    expect((await system.builder('execute', 'nightly')).code).toBe(66);
  });

  it('that is due runs by itself', async () => {
    const script = file('tick.sh', 'echo tick\n');
    expect((await system.builder('schedule', 'often', 'test', script, '--every', '1s')).code).toBe(0);
    const run = await until(async () => (await system.json('runs', 'often')).runs.find((one) => one.state === 'finished'), 'a tick to end');
    expect(run).toMatchObject({ trigger: 'schedule', outcome: 'succeeded' });
    expect((await system.builder('unschedule', 'often')).code).toBe(0);
  });

  it('comes from a template', async () => {
    const template = file('greet.sh', 'echo hello %%NAME%% on %%PLATFORM%%\n');
    expect((await system.builder('template', 'set', 'greet', `test=${template}`)).code).toBe(0);
    expect((await system.builder('schedule', 'greeting', '--template', 'greet', '--param', 'NAME=world', '--period', 'never')).code).toBe(
      0,
    );
    expect((await system.builder('execute', 'greeting', '--follow')).stdout).toBe('hello world on test\n');
    expect((await system.builder('schedule', 'nameless', '--template', 'greet')).code).toBe(2);
  });
});

describe('observing', () => {
  it('follows a run that goes on, and ends with its exit code', async () => {
    const run = await id(
      'run',
      '--detach',
      '-c',
      'echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done; exit 5',
      '--timeout',
      '20s',
    );
    const observer = system.start(['observe', run]);
    await until(() => observer.stdout.includes('begun'), 'the first line');
    const glance = await system.builder('observe', run, '--no-follow');
    expect(glance).toMatchObject({ code: 0, stdout: 'begun\n' });
    expect((await system.builder('cancel', run, '--reason', 'seen enough')).code).toBe(0);
    expect((await observer.ended).code).toBe(130);
    expect(await runOf(system, run)).toMatchObject({ outcome: 'cancelled', reason: 'cancelled: seen enough' });
  });

  it('detaches at Ctrl-C, and the run goes on', async () => {
    const follower = system.start(['run', '-c', 'echo begun; sleep 1; echo done']);
    await until(() => follower.stdout.includes('begun'), 'the first line');
    follower.child.kill('SIGINT');
    const detached = await follower.ended;
    expect(detached.code).toBe(0);
    const run = /builder observe ([0-9a-f-]{36})/.exec(detached.stderr)?.[1] ?? '';
    expect(await finished(run)).toMatchObject({ outcome: 'succeeded' });
  });

  it('as JSON gives the lines and the end', async () => {
    const lines = (await system.builder('run', '-c', 'echo a; echo b >&2', '--json')).stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(
      lines
        .filter((line) => 'line' in line)
        .map((line) => line.text)
        .sort(),
    ).toEqual(['a', 'b']);
    expect(lines.at(-1)).toEqual({ end: expect.objectContaining({ lines: 2, outcome: 'succeeded' }) });
  });
});

describe('platforms', () => {
  it('without a worker keep their runs waiting, and info shows it', async () => {
    const run = await id('run', '--detach', '--platform', 'freebsd-14', '-c', 'true');
    const info = await system.json('info');
    expect(info.queues['freebsd-14']).toMatchObject({ waiting: 1, next: [expect.objectContaining({ id: run, state: 'waiting' })] });
    expect((await system.builder('cancel', run)).code).toBe(0);
    expect(await runOf(system, run)).toMatchObject({ state: 'finished', outcome: 'cancelled' });
  });

  it('that are dropped refuse runs until they are taken back', async () => {
    expect((await system.builder('drop-platform', 'freebsd-14')).code).toBe(0);
    expect((await system.builder('run', '--platform', 'freebsd-14', '-c', 'true')).code).toBe(2);
    expect((await system.json('info')).droppedPlatforms).toEqual(['freebsd-14']);
    expect((await system.builder('undrop-platform', 'freebsd-14')).code).toBe(0);
    expect((await system.json('info')).droppedPlatforms).toEqual([]);
  });
});

describe('tokens', () => {
  it('do what their scope says and no more, until they are revoked', async () => {
    const made = await system.json('token', 'create', 'reader', '--scope', 'read');
    const asReader = (...args: string[]) => system.builder(...args, '--token', made.token);
    expect((await asReader('info')).code).toBe(0);
    expect((await asReader('run', '--platform', 'test', '-c', 'true')).code).toBe(77);
    expect((await asReader('token', 'list')).code).toBe(77);
    expect((await system.builder('token', 'list')).stdout).not.toContain(made.token);
    expect((await system.builder('token', 'revoke', made.id)).code).toBe(0);
    expect((await asReader('info')).code).toBe(77);
  });
});

describe('bad input', () => {
  const good = () => file('good.sh', 'true\n');
  it.each<[string, () => string[], number]>([
    ['an unknown command', () => ['frobnicate'], 2],
    ['an unknown flag', () => ['info', '--frob'], 2],
    ['no command', () => [], 2],
    ['a name with a slash', () => ['schedule', 'a/b', 'test', good()], 2],
    ['a missing script', () => ['schedule', 'a', 'test', '/nonexistent.sh'], 66],
    ['a missing input', () => ['run', '-c', 'true', '--platform', 'test', '--input', '/nonexistent'], 66],
    ['a wrong cron', () => ['schedule', 'a', 'test', good(), '--cron', 'now and then'], 2],
    ['a wrong duration', () => ['run', '-c', 'true', '--timeout', '5'], 2],
    ['an unknown time zone', () => ['schedule', 'a', 'test', good(), '--cron', '0 0 * * *', '--tz', 'Mars/Olympus'], 2],
    ['two schedules', () => ['schedule', 'a', 'test', good(), '--period', 'daily', '--every', '5m'], 2],
    ['an unknown run', () => ['show', '00000000-0000-4000-8000-000000000000'], 66],
    ['a short prefix', () => ['show', 'abc'], 2],
    ['a wrong token', () => ['info', '--token', 'nonsense'], 77],
    ['a server that is away', () => ['info', '--server', 'http://127.0.0.1:1'], 69],
    ['a server that is no URL', () => ['info', '--server', 'here'], 2],
    ['an input that leads out', () => ['run', '-c', 'true', '--input', `${good()}=../x`], 2],
    ['an input in the script’s place', () => ['run', '-c', 'true', '--input', `${good()}=script.sh`], 2],
    ['a variable of builder’s', () => ['run', '-c', 'true', '--env', 'BUILDER_RUN_ID=x'], 2],
  ])('%s is told in one line', async (_, args, code) => {
    const refused = await system.builder(...args());
    expect([refused.code, refused.stdout]).toEqual([code, '']);
    expect(refused.stderr.trim().split('\n')).toHaveLength(1);
    expect(refused.stderr).not.toMatch(/\n\s+at /);
  });

  it('leaves no job behind', async () => expect((await system.json('info')).schedule.filter((one) => one.job === 'a')).toEqual([]));

  it('is JSON under --json', async () => {
    const refused = await system.builder('show', '00000000-0000-4000-8000-000000000000', '--json');
    expect(JSON.parse(refused.stderr)).toEqual({ error: { code: 'not-found', message: expect.any(String) } });
  });
});
