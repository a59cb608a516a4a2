/** Inputs on their way up and artifacts on their way down, against a server that may lie. */

import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { createSmallFiles } from '../../src/cli/small-files.ts';
import { limits } from '../../src/job/limits.ts';
import { type CommandOptions, runCommand, type StartedCommand, startCommand } from '../support/command-line.ts';
import { json, type ProtocolServer, problem, RUN_ID, runOf, startProtocolServer } from '../support/protocol-server.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

let folder: TempFolder;
let server: ProtocolServer | undefined;

beforeEach(() => {
  folder = tempFolder();
});

afterEach(async () => {
  await server?.stop();
  server = undefined;
  folder.remove();
});

function at(env: Record<string, string> = {}): CommandOptions {
  return { cwd: folder.path, env: { BUILDER_SERVER: server?.url ?? '', BUILDER_TOKEN: 'secret-token', ...env } };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

interface Served {
  path: string;
  content: string;
  mode?: number;
  sha256?: string;
  bytes?: number;
  input?: 'unchanged' | 'changed' | null;
}

/** A server with the artifacts of one run. */
async function serveArtifacts(files: Served[]): Promise<void> {
  server = await startProtocolServer((asked, response) => {
    const path = decodeURIComponent(asked.path.replace(`runs/${RUN_ID}/artifacts`, '').slice(1));
    if (path === '') return json(response, { artifacts: files.map(listed) });
    const file = files.find((one) => one.path === path);
    if (file === undefined) return problem(response, 404, 'not-found', 'expected an artifact, got none');
    response.end(file.content);
  });
}

function listed({ content, ...one }: Served): Record<string, unknown> {
  return { bytes: Buffer.byteLength(content), mode: 0o644, sha256: sha256(content), input: null, sameAs: null, ...one };
}

function filesBelow(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .map((entry) => `${entry.parentPath.slice(path.length)}/${entry.name}`)
    .sort();
}

describe('download', () => {
  test('writes everything but unchanged inputs, with modes, and says what was left out', async () => {
    await serveArtifacts([
      { path: 'out/a b.txt', content: 'a', mode: 0o755 },
      { path: 'source.c', content: 'c', input: 'unchanged' },
      { path: 'empty', content: '', mode: 0o600, input: 'changed' },
    ]);
    const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
    expect(ran).toEqual({ code: 0, stdout: 'out/a b.txt\nempty\n', stderr: 'left out 1 unchanged input; name a path, or . for all\n' });
    expect(filesBelow(`${folder.path}/here`)).toEqual(['/empty', '/out', '/out/a b.txt']);
    expect(readFileSync(`${folder.path}/here/out/a b.txt`, 'utf8')).toBe('a');
    expect(statSync(`${folder.path}/here/out/a b.txt`).mode & 0o777).toBe(0o755);
    expect(statSync(`${folder.path}/here/empty`).mode & 0o777).toBe(0o600);
  });

  test('takes a folder with all below it, an unchanged input that is named, and . for all', async () => {
    await serveArtifacts([
      { path: 'out/a', content: 'a' },
      { path: 'out/deep/b', content: 'b', input: 'unchanged' },
      { path: 'outside', content: 'c' },
    ]);
    expect((await runCommand(['download', RUN_ID, 'out/', '-oone'], at())).stdout).toBe('out/a\nout/deep/b\n');
    expect((await runCommand(['download', RUN_ID, '.', '-o', 'two'], at())).stdout).toBe('out/a\nout/deep/b\noutside\n');
  });

  test('takes what follows -- for names, whatever they begin with', async () => {
    await serveArtifacts([
      { path: '-o', content: 'a' },
      { path: '--json', content: 'b' },
      { path: 'c', content: 'c' },
    ]);
    expect(await runCommand(['download', RUN_ID, '-o', 'here', '--', '-o', '--json'], at())).toMatchObject({ code: 0, stderr: '' });
    expect(filesBelow(`${folder.path}/here`)).toEqual(['/--json', '/-o']);
    expect((await runCommand(['--server', server?.url ?? '', 'download', RUN_ID, '-o', 'more', '--', '--json'], at())).code).toBe(0);
    expect((await runCommand(['download', '--', RUN_ID, '-x'], at())).stderr).toMatch(/expected a file or folder of the run, got -x/);
  });

  test('of a path that the run does not have ends with 66 and writes nothing', async () => {
    await serveArtifacts([{ path: 'a', content: 'a' }]);
    const ran = await runCommand(['download', RUN_ID, 'a', 'b', '-o', 'here'], at());
    expect(ran.code).toBe(66);
    expect(ran.stderr).toMatch(/^builder: expected a file or folder of the run, got b .*\n$/);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test.each([
    ['other bytes', { sha256: sha256('other') }],
    ['more bytes than announced', { bytes: 2 }],
    ['fewer bytes than announced', { bytes: 200 }],
  ])('of %s ends with 1 and leaves nothing behind', async (_, lie) => {
    await serveArtifacts([{ path: 'deep/er/file', content: 'content', ...lie }]);
    const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
    expect(ran).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(/^builder: expected deep\/er\/file to be .*; it was not kept\n$/);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test('streams a large file, and leaves nothing of one that is damaged', async () => {
    const content = 'x'.repeat(limits.wholeFileBytesMax + 1);
    await serveArtifacts([
      { path: 'large', content, mode: 0o755 },
      { path: 'lie/large', content, sha256: sha256('other') },
    ]);
    expect((await runCommand(['download', RUN_ID, 'large', '-o', 'here'], at())).code).toBe(0);
    expect(readFileSync(`${folder.path}/here/large`, 'utf8')).toBe(content);
    expect(statSync(`${folder.path}/here/large`).mode & 0o777).toBe(0o755);
    expect(await runCommand(['download', RUN_ID, 'lie', '-o', 'here'], at())).toMatchObject({ code: 1, stdout: '' });
    expect(filesBelow(`${folder.path}/here`)).toEqual(['/large']);
  });

  test('puts no file where a folder is, small or large', async () => {
    await serveArtifacts([
      { path: 'folder', content: 'b' },
      { path: 'here/large', content: 'x'.repeat(limits.wholeFileBytesMax + 1) },
    ]);
    mkdirSync(`${folder.path}/here/here/large`, { recursive: true });
    mkdirSync(`${folder.path}/here/folder`);
    const said = async (path: string) => (await runCommand(['download', RUN_ID, path, '-o', 'here'], at())).stderr;
    expect(await said('folder')).toMatch(/^builder: expected a file or nothing at .*\/here\/folder, got a folder\n$/);
    expect(await said('here/large')).toMatch(/^builder: expected a file or nothing at .*\/here\/here\/large, got a folder\n$/);
    expect(filesBelow(`${folder.path}/here`)).toEqual(['/folder', '/here', '/here/large']);
  });

  test.each(['../up', '/etc/absolute', 'a/../../up', 'a//b', './a', ''])(
    'refuses the name %j in the list before it writes anything',
    async (path) => {
      await serveArtifacts([
        { path: 'good', content: 'good' },
        { path, content: 'evil' },
      ]);
      const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
      expect(ran.code).toBe(1);
      expect(ran.stderr).toMatch(/nothing was written\n$/);
      expect(server?.asked.length).toBe(1);
      expect(readdirSync(folder.path)).toEqual([]);
    },
  );
});

/** A server that also gives rows of artifacts; `together` may lie about them. */
async function serveRows(files: Served[], together: (row: Served[], response: ServerResponse) => void): Promise<void> {
  server = await startProtocolServer((asked, response) => {
    const path = decodeURIComponent(asked.path.replace(`runs/${RUN_ID}/artifacts`, '').slice(1));
    const row = asked.query.get('contents')?.split('-').map(Number);
    if (row !== undefined) return together(files.slice(row[0], (row[1] ?? 0) + 1), response);
    if (path === '') return json(response, { artifacts: files.map(listed) });
    response.end(files.find((one) => one.path === path)?.content);
  });
}

/** In the order in which they came, without the list itself. */
function requests(): string[] {
  return (server?.asked ?? []).slice(1).map(({ path, query }) => query.get('contents') ?? path.replace(`runs/${RUN_ID}/artifacts/`, ''));
}

function answerRow(row: Served[], response: ServerResponse): void {
  response.end(row.map(({ content }) => content).join(''));
}

describe('download of many small files', () => {
  const many = (count: number): Served[] => Array.from({ length: count }, (_, n) => ({ path: `out/${n}`, content: `content ${n}` }));

  test('asks for those together that follow each other, as many as fit', async () => {
    const files = many(600);
    for (const n of [10, 11]) files[n] = { ...(files[n] as Served), input: 'unchanged' };
    files[400] = { path: 'out/400', content: 'x'.repeat(limits.wholeFileBytesMax) };
    await serveRows(files, answerRow);
    const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
    expect(ran).toMatchObject({ code: 0, stderr: 'left out 2 unchanged inputs; name a path, or . for all\n' });
    expect(requests().sort()).toEqual(['0-9', '12-267', '268-399', '401-599', 'out/400']);
    expect(readdirSync(`${folder.path}/here/out`).length).toBe(598);
    for (const n of [0, 9, 12, 267, 268, 400, 599]) {
      expect(readFileSync(`${folder.path}/here/out/${n}`, 'utf8')).toBe(files[n]?.content);
    }
  });

  test.each<[string, (row: Served[], response: ServerResponse) => void, string[]]>([
    ['are refused together', (_, response) => problem(response, 422, 'usage', 'no such query'), ['out/0', 'out/1', 'out/2']],
    ['come short', (_, response) => void response.end('content 0content 1'), ['out/0', 'out/1', 'out/2']],
    [
      'break off',
      (_, response) => void response.writeHead(200, { 'content-length': 27 }).write('x', () => response.destroy()),
      ['out/0', 'out/1', 'out/2'],
    ],
    ['come with one damaged', (_, response) => void response.end('content 0CONTENT 1content 2'), ['out/1']],
  ])('asks for each that is missing where they %s', async (_, together, alone) => {
    await serveRows(many(3), together);
    expect((await runCommand(['download', RUN_ID, '-o', 'here'], at())).code).toBe(0);
    expect(requests()).toEqual(['0-2', ...alone]);
    for (const n of [0, 1, 2]) expect(readFileSync(`${folder.path}/here/out/${n}`, 'utf8')).toBe(`content ${n}`);
    expect(filesBelow(`${folder.path}/here`)).toEqual(['/out', '/out/0', '/out/1', '/out/2']);
  });

  test('tells of one that is damaged both ways, and keeps it not', async () => {
    const files = many(3);
    files[1] = { path: 'out/1', content: 'content 1', sha256: sha256('other') };
    await serveRows(files, answerRow);
    const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/^builder: expected out\/1 to be .*; it was not kept\n$/);
    expect(filesBelow(`${folder.path}/here`)).toEqual(['/out', '/out/0']);
  });

  test.each([500, 404])('names one that the server cannot give: %d', async (status) => {
    const [first, second] = many(2) as [Served, Served];
    server = await startProtocolServer((asked, response) => {
      if (asked.query.has('contents')) return problem(response, status, 'damaged', 'something of a row');
      if (asked.path.endsWith('artifacts')) return json(response, { artifacts: [first, second].map(listed) });
      problem(response, status, status === 500 ? 'damaged' : 'not-found', 'its own words');
    });
    const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
    expect(ran).toEqual({
      code: status === 500 ? 1 : 66,
      stdout: '',
      stderr: 'builder: expected out/0 at the server, got: its own words\n',
    });
  });

  test('ends at Ctrl-C with nothing unfinished left', async () => {
    let command: StartedCommand | undefined;
    await serveRows(many(3), (_, response) => response.write('content 0cont', () => command?.interrupt()));
    command = startCommand(['download', RUN_ID, '-o', 'here'], at());
    expect(await command.done).toEqual({ code: 130, stdout: '', stderr: 'interrupted; unfinished files were removed\n' });
    expect(requests()).toEqual(['0-2']);
    expect(readdirSync(folder.path)).toEqual([]);
  });
});

describe('small files', () => {
  test('are written with others waiting where the folder is slow', async () => {
    const slow = jest.replaceProperty(limits as { placingMsMax: number }, 'placingMsMax', -1);
    expect(createSmallFiles().isFree(`${folder.path}/none`)).toBe(false);
    await serveRows(
      [
        { path: 'a', content: 'a', mode: 0o750 },
        { path: 'b/b', content: 'b' },
      ],
      answerRow,
    );
    const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
    slow.restore();
    expect(ran.code).toBe(0);
    expect(requests()).toEqual(['0-1']);
    expect(filesBelow(`${folder.path}/here`)).toEqual(['/a', '/b', '/b/b']);
    expect(readFileSync(`${folder.path}/here/b/b`, 'utf8')).toBe('b');
    expect(statSync(`${folder.path}/here/a`).mode & 0o777).toBe(0o750);
  });

  test('are placed at once, whole, or left to others without a trace', () => {
    const small = createSmallFiles();
    const temporary = `${folder.path}/.part`;
    const file = { temporary, target: `${folder.path}/file`, mode: 0o640, content: Buffer.from('new') };
    expect(small.isFree(file.target)).toBe(true);
    expect(small.place(file)).toBe(true);
    expect(small.isFree(file.target)).toBe(false);
    expect(statSync(file.target).mode & 0o777).toBe(0o640);
    mkdirSync(`${folder.path}/folder`);
    expect(small.place({ ...file, target: `${folder.path}/folder` })).toBe(false);
    expect(small.place({ ...file, temporary: `${folder.path}/none/.part` })).toBe(false);
    writeFileSync(temporary, 'of somebody');
    expect(small.place(file)).toBe(false);
    expect(readFileSync(temporary, 'utf8')).toBe('of somebody');
    expect(filesBelow(folder.path)).toEqual(['/.part', '/file', '/folder']);
  });
});

describe('download into a folder that is in use', () => {
  test('follows no symbolic link in it', async () => {
    await serveArtifacts([{ path: 'link/file', content: 'new' }]);
    mkdirSync(`${folder.path}/here`);
    mkdirSync(`${folder.path}/elsewhere`);
    symlinkSync('../elsewhere', `${folder.path}/here/link`);
    const ran = await runCommand(['download', RUN_ID, '-o', 'here'], at());
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/^builder: expected a folder or nothing at .*\/here\/link, got a symbolic link\n$/);
    expect(readdirSync(`${folder.path}/elsewhere`)).toEqual([]);
  });

  test('replaces a file, and not a link to one', async () => {
    await serveArtifacts([{ path: 'file', content: 'new' }]);
    writeFileSync(`${folder.path}/file`, 'old');
    expect((await runCommand(['download', RUN_ID], at())).code).toBe(0);
    expect(readFileSync(`${folder.path}/file`, 'utf8')).toBe('new');
    mkdirSync(`${folder.path}/here`);
    symlinkSync('../file', `${folder.path}/here/file`);
    writeFileSync(`${folder.path}/file`, 'old');
    expect((await runCommand(['download', RUN_ID, '-o', 'here'], at())).code).toBe(2);
    expect(readFileSync(`${folder.path}/file`, 'utf8')).toBe('old');
  });
});

/** A server that takes inputs and runs; `known` are the digests it has. */
async function serveInputs(known: Set<string>): Promise<void> {
  server = await startProtocolServer((asked, response) => {
    if (asked.method === 'HEAD') return void response.writeHead(known.has(asked.path.slice('inputs/'.length)) ? 200 : 404).end();
    if (asked.path === 'inputs') {
      const digest = createHash('sha256').update(asked.body).digest('hex');
      known.add(digest);
      return json(response, { sha256: digest, bytes: asked.body.length });
    }
    json(response, runOf(), 201);
  });
}

function submitted(): { inputs: { path: string; sha256: string; mode: number }[] } {
  return JSON.parse(server?.asked.find((asked) => asked.path === 'runs')?.body.toString() ?? '{}');
}

describe('an input', () => {
  const run = (...inputs: string[]) =>
    runCommand(['run', '--platform', 'p', '--detach', '-c', 'true', ...inputs.flatMap((one) => ['--input', one])], at());

  test('goes up once per content, and not at all where it is known', async () => {
    await serveInputs(new Set([sha256('known')]));
    for (const [name, content] of [
      ['a', 'same'],
      ['b', 'same'],
      ['c', 'known'],
      ['d', ''],
    ])
      writeFileSync(`${folder.path}/${name}`, content as string);
    expect(await run('a', 'b=other', 'c', 'd')).toEqual({ code: 0, stdout: `${RUN_ID}\n`, stderr: '' });
    const sent = server?.asked.filter((asked) => asked.path === 'inputs') ?? [];
    expect(sent.map((asked) => asked.body.toString()).sort()).toEqual(['', 'same']);
    expect(sent.map((asked) => asked.headers['x-content-sha256']).sort()).toEqual([sha256(''), sha256('same')].sort());
    expect(submitted().inputs.map((one) => one.path)).toEqual(['a', 'other', 'c', 'd']);
  });

  test('that is a folder keeps relative paths and modes, at its place or at the root', async () => {
    await serveInputs(new Set());
    mkdirSync(`${folder.path}/src/lib`, { recursive: true });
    writeFileSync(`${folder.path}/src/tool`, 'tool');
    chmodSync(`${folder.path}/src/tool`, 0o750);
    writeFileSync(`${folder.path}/src/lib/x`, 'x');
    await run('src', 'src=', 'src/lib=deep/er');
    expect(submitted().inputs.map(({ path }) => path)).toEqual(['src/lib/x', 'src/tool', 'lib/x', 'tool', 'deep/er/x']);
    expect(submitted().inputs[1]?.mode).toBe(0o750);
  });

  test.each([
    ['that is missing ends with 66', ['nothing'], 66, 'nothing'],
    ['outside the folder is refused', ['file=../up'], 2, '../up'],
    ['in the place of the script is refused', ['file=script.sh'], 2, 'script.sh'],
    ['that meets another at one place is refused', ['file', 'file'], 2, 'one input at file'],
  ])('%s', async (_, inputs, code, words) => {
    await serveInputs(new Set());
    writeFileSync(`${folder.path}/file`, 'x');
    mkdirSync(`${folder.path}/folder`);
    symlinkSync('/etc/passwd', `${folder.path}/folder/link`);
    const ran = await run(...inputs);
    expect(ran).toMatchObject({ code, stdout: '' });
    expect(ran.stderr).toContain(words);
    expect(ran.stderr.split('\n').length).toBe(2);
    expect(server?.asked).toEqual([]);
  });

  test('folder goes without its symbolic links, wherever they lead, and says so', async () => {
    await serveInputs(new Set());
    mkdirSync(`${folder.path}/folder`);
    writeFileSync(`${folder.path}/folder/file`, 'x');
    symlinkSync('/nowhere', `${folder.path}/folder/dangling`);
    const ran = await run('folder');
    expect(ran).toMatchObject({ code: 0, stderr: expect.stringMatching(/^input left out: .*folder\/dangling is a symbolic link$/m) });
    expect(ran.stderr).not.toContain('folder/file');
  });
});
