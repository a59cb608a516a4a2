import { describe, expect, it } from '@jest/globals';
import { InputFile, inputsConflict } from '../../src/job/artifact.ts';
import { tickRunId } from '../../src/job/derived-ids.ts';
import { formatDuration, parseDuration } from '../../src/job/duration.ts';
import { checkName, checkRelativePath } from '../../src/job/names.ts';
import { exitCodeOf } from '../../src/job/outcome.ts';
import { formatSize, parseSize } from '../../src/job/size.ts';
import { parametersOf, renderTemplate } from '../../src/job/template.ts';

const SHA256 = 'a'.repeat(64);
const ending = (outcome: Parameters<typeof exitCodeOf>[0]['outcome'], exitCode: number | null = null, signal: string | null = null) =>
  exitCodeOf({ outcome, exitCode, signal });

describe('a duration', () => {
  it.each([
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['250ms', 250],
    ['1.5h', 5_400_000],
    ['2w', 1_209_600_000],
  ])('%s is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each(['', '5', 'h', '-5s', '5 s', '1h30', '10x', 'forever'])('%p is refused', (text) => {
    expect(() => parseDuration(text)).toThrow(/^expected a duration such as 90s/);
  });

  it('is printed as it would be read', () => {
    for (const ms of [0, 1, 250, 90_000, 5_400_000, 86_400_001]) expect(parseDuration(formatDuration(ms))).toBe(ms);
  });
});

describe('a size', () => {
  it.each([
    ['4096', 4096],
    ['512M', 512 * 1024 ** 2],
    ['1.5G', 1.5 * 1024 ** 3],
    ['2GiB', 2 * 1024 ** 3],
    ['10K', 10 * 1024],
  ])('%s is %d bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(['', 'M', '-1M', '1 M', '512MB', '2g', '1e9', '9999999T'])('%p is refused', (text) => {
    expect(() => parseSize(text)).toThrow(/^expected a size such as 512M/);
  });

  it('is printed as people would write it', () =>
    expect([1, 4096, 512 * 1024 ** 2, 1.5 * 1024 ** 3].map(formatSize)).toEqual(['1', '4K', '512M', '1.5G']));
});

describe('the exit code of a follower', () => {
  it('is the script’s own', () => expect([ending('succeeded', 0), ending('failed', 7), ending('failed', 255)]).toEqual([0, 7, 255]));
  it('is 128 and the signal’s number', () =>
    expect([ending('signalled', null, 'SIGKILL'), ending('signalled', null, 'SIG35')]).toEqual([137, 163]));
  it('tells what builder did', () => {
    expect([ending('timed-out'), ending('cancelled'), ending('lost'), ending('refused')]).toEqual([124, 130, 125, 125]);
  });
});

describe('a name', () => {
  it.each(['a', 'debian-12', '0x', 'a'.repeat(63)])('%s is one', (name) => expect(checkName('job', name)).toBe(name));
  it.each(['', 'A', 'a/b', '-a', '.a', 'a b', 'ä', 'a'.repeat(64), 'a\n'])('%p is none', (name) => {
    expect(() => checkName('job', name)).toThrow(/^expected a job name/);
  });
});

describe('a path in a run’s folder', () => {
  it('is made plain', () => expect([checkRelativePath('./a//b/'), checkRelativePath('a.b/..c')]).toEqual(['a/b', 'a.b/..c']));
  it.each(['', '.', '/etc/passwd', '../a', 'a/../../b', 'a\0b', 'a/..'])('%p is refused', (path) => {
    expect(() => checkRelativePath(path)).toThrow(/^expected a path inside the folder/);
  });
  it('is refused in an input unless it is plain already', () => {
    expect(InputFile.safeParse({ path: 'a/b', sha256: SHA256 }).success).toBe(true);
    for (const path of ['../a', '/a', 'a//b', './a', '']) expect(InputFile.safeParse({ path, sha256: SHA256 }).success).toBe(false);
  });
});

describe('inputs', () => {
  const conflict = (...paths: string[]) => inputsConflict(paths.map((path) => ({ path, sha256: SHA256, mode: 0o644 })));
  it('lie beside one another', () => expect(conflict('a', 'b/c', 'b/d', 'ab')).toBeNull());
  it('cannot share a path, nor be file and folder, nor the script', () => {
    expect(conflict('a', 'a')).toMatch(/"a" twice/);
    expect(conflict('a/b/c', 'a')).toMatch(/"a" to be a folder or a file/);
    expect(conflict('script.sh')).toMatch(/beside script.sh/);
    expect(conflict('script.sh/x')).toMatch(/beside script.sh/);
  });
});

describe('a template', () => {
  it('takes its parameters, and the platform from builder', () => {
    expect(renderTemplate('build %%PACKAGE%% on %%PLATFORM%% %%PACKAGE%%', 'debian-12', { PACKAGE: '$& 100%' })).toBe(
      'build $& 100% on debian-12 $& 100%',
    );
    expect(parametersOf('%%A%% %%B%% %%A%% %%c%%')).toEqual(['A', 'B']);
  });
  it('names the parameters that have no value', () => expect(() => renderTemplate('%%A%% %%B%%', 'p', { A: '1' })).toThrow(/parameter B/));
});

describe('the run of a tick', () => {
  it('has the same id wherever it is made, and another for each platform and tick', () => {
    const ids = [tickRunId('d', 'p', 1), tickRunId('d', 'p', 1), tickRunId('d', 'q', 1), tickRunId('d', 'p', 2)];
    expect(ids[0]).toBe(ids[1]);
    expect(new Set(ids).size).toBe(3);
  });
});
