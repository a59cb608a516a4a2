import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { identityOf } from '../../src/service/process-identity.ts';
import { takeLeftFolders } from '../../workers/left-folders.ts';
import { readLeftSpool } from '../../workers/left-spool.ts';
import { takeWorkFolder } from '../../workers/work-folder.ts';
import { smallDisk } from '../support/small-disk.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

const BUILT = fileURLToPath(new URL('../../dist/workers/work-folder.js', import.meta.url));
const DEAD = '4000000 1 no-such-boot';
const RUN = 'bd2bea17-ff15-4614-944f-d6a923c2036a';

let temp: TempFolder;
let mine: string;
let count = 0;
const takers: Taker[] = [];

beforeAll(async () => {
  temp = tempFolder();
  mine = String(await identityOf(process.pid));
});

afterAll(async () => {
  for (const taker of takers) taker.end();
  await Promise.all(takers.map((taker) => taker.ended));
  temp.remove();
});

/** A root for workers' folders. */
function newRoot(): string {
  count += 1;
  mkdirSync(`${temp.path}/root-${count}`);
  return `${temp.path}/root-${count}`;
}

/** A worker's folder with one attempt in it. */
function workerFolder(root: string, name: string, owner: string | null): string {
  mkdirSync(`${root}/${name}/runs/${RUN}-1-ab12`, { recursive: true });
  if (owner !== null) writeFileSync(`${root}/${name}/owner`, owner);
  return `${root}/${name}`;
}

const takenName = (identity: string): string => `taken-${identity.replaceAll(' ', '-')}`;

describe('a worker that starts', () => {
  it.each([
    ['is dead', DEAD],
    ['was written by half', '40000'],
    ['is empty, as after a loss of power', ''],
    ['is missing beside runs', null],
  ])('takes a folder whose owner %s, with its attempts, and once', async (_, owner) => {
    const root = newRoot();
    workerFolder(root, 'dead', owner);
    const [taken, ...others] = await takeLeftFolders(root, mine);
    expect(others).toEqual([]);
    expect(taken?.attempts).toEqual([{ path: `${taken?.path}/runs/${RUN}-1-ab12`, run: RUN, attempt: 1, claim: 'ab12' }]);
    expect(existsSync(`${taken?.path}/runs/${RUN}-1-ab12`)).toBe(true);
    expect(existsSync(`${root}/dead`)).toBe(false);
    expect(await takeLeftFolders(root, mine)).toEqual([]);
  });

  it('takes a folder whose owner had this very process id and start before the machine was booted again', async () => {
    const root = newRoot();
    const [pid, start] = mine.split(' ');
    workerFolder(root, 'before', `${pid} ${start} 00000000-0000-0000-0000-000000000000`);
    expect(await takeLeftFolders(root, mine)).toHaveLength(1);
  });

  it('takes what a start that died held, and the one after that, with one file that says whose it is', async () => {
    const root = newRoot();
    workerFolder(root, 'dead', DEAD);
    for (const taker of ['4000001 1 b', '4000002 1 b', mine]) {
      const [taken] = await takeLeftFolders(root, taker);
      // Whoever took it before is not kept: nothing piles up.
      expect(readdirSync(taken?.path ?? '').sort()).toEqual(['runs', takenName(taker)]);
    }
    expect(await takeLeftFolders(root, '4000003 1 b')).toEqual([]);
  });

  it('leaves alone what a living one has taken, and does not get its name before it is moved away', async () => {
    const root = newRoot();
    const folder = workerFolder(root, 'host', DEAD);
    renameSync(`${folder}/owner`, `${folder}/${takenName(mine)}`);
    const before = readdirSync(folder).sort();
    expect(await takeLeftFolders(root, '4000001 1 b')).toEqual([]);
    await expect(takeWorkFolder(root, 'host', false)).rejects.toThrow('expected a worker name that is not in use');
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  it('leaves alone the folder of a living neighbour, one that is being made, and what links elsewhere', async () => {
    const root = newRoot();
    workerFolder(root, 'alive', mine);
    mkdirSync(`${root}/new`);
    writeFileSync(`${root}/a-file`, '');
    const elsewhere = newRoot();
    workerFolder(elsewhere, 'far', DEAD);
    symlinkSync(`${elsewhere}/far`, `${root}/link`);
    const before = readdirSync(root, { recursive: true }).sort();
    expect(await takeLeftFolders(root, mine)).toEqual([]);
    expect(readdirSync(root, { recursive: true }).sort()).toEqual(before);
    // A link in the place of the runs' folder: what it leads to is nobody's attempt here.
    mkdirSync(`${root}/dead`);
    writeFileSync(`${root}/dead/owner`, DEAD);
    symlinkSync(`${elsewhere}/far/runs`, `${root}/dead/runs`);
    expect(await takeLeftFolders(root, mine)).toMatchObject([{ attempts: [] }]);
    expect(existsSync(`${elsewhere}/far/runs/${RUN}-1-ab12`)).toBe(true);
  });

  it('is not held up by a pipe in the place of a file', async () => {
    const root = newRoot();
    const folder = workerFolder(root, 'dead', DEAD);
    execFileSync('mkfifo', [`${folder}/runs/${RUN}-1-ab12/cgroups.json`]);
    mkdirSync(`${root}/piped/runs`, { recursive: true });
    execFileSync('mkfifo', [`${root}/piped/owner`]);
    expect(await takeLeftFolders(root, mine)).toHaveLength(1);
  });

  it('gets the name of the dead one', async () => {
    const root = newRoot();
    workerFolder(root, 'host', DEAD);
    const folder = await takeWorkFolder(root, 'host', true);
    expect(folder).toMatchObject({ name: 'host', path: `${root}/host`, left: [{ fault: null }] });
    expect(readFileSync(`${root}/host/owner`, 'utf8')).toBe(mine);
    await folder.release();
    expect(readdirSync(root)).toEqual([folder.left[0]?.path.split('/').at(-1)]);
  });

  it('is where a link on the way leads to: a sandbox covers the link', async () => {
    const root = newRoot();
    symlinkSync(root, `${root}-link`);
    const folder = await takeWorkFolder(`${root}-link/inner`, 'host', true);
    expect(folder.path).toBe(`${realpathSync(root)}/inner/host`);
    await folder.release();
  });

  it('among many at once shares what there is: each name and each folder is one worker’s alone', async () => {
    const root = newRoot();
    for (const name of ['host', 'host-2', ...Array.from({ length: 40 }, (_, n) => `dead-${n}`)]) workerFolder(root, name, DEAD);
    // They begin together, and live until all have taken.
    const program = `
      const { takeWorkFolder } = await import(${JSON.stringify(BUILT)});
      process.stdout.write('ready\\n');
      await new Promise((resolve) => process.stdin.once('data', resolve));
      const { path, left } = await takeWorkFolder(${JSON.stringify(root)}, 'host', true);
      process.stdout.write(JSON.stringify({ path, left: left.map((one) => one.path) }) + '\\n');
      process.stdin.on('end', () => process.exit(0));`;
    takers.push(...Array.from({ length: 6 }, () => startTaker(program)));
    await Promise.all(takers.map((taker) => taker.line(0)));
    for (const taker of takers) taker.go();
    const taken = await Promise.all(
      takers.map(async (taker) => ({ ...JSON.parse(await taker.line(1)), identity: String(await identityOf(taker.pid)) })),
    );
    // One that came too late may have left the beginning of its own file: it goes with the folder.
    const names = (folder: string, kind: string): string[] =>
      readdirSync(folder).filter((name) => name.startsWith(kind) && !name.endsWith('.new'));
    const contents = (folder: string, kind: string): string[] =>
      names(folder, kind).map((name) => readFileSync(`${folder}/${name}`, 'utf8'));
    for (const { path, left, identity } of taken) {
      expect(contents(path, 'owner')).toEqual([identity]);
      for (const folder of left) expect(names(folder, 'taken')).toEqual([takenName(identity)]);
    }
    const all = taken.flatMap(({ path, left }) => [path, ...left]).map((path: string) => path.slice(root.length + 1));
    expect(all.sort()).toEqual(readdirSync(root).sort());
    expect(all).toHaveLength(42 + takers.length);
  });
});

interface Taker {
  pid: number;
  line(index: number): Promise<string>;
  go(): void;
  end(): void;
  ended: Promise<void>;
}

function startTaker(program: string): Taker {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  let text = '';
  let told: () => void = () => undefined;
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    told();
  });
  return {
    pid: child.pid ?? 0,
    line: async (index) => {
      while (text.split('\n').length < index + 2) {
        await new Promise<void>((resolve, reject) => {
          told = resolve;
          void ended.then(() => reject(new Error(`a taker ended after ${text}`)));
        });
      }
      return text.split('\n')[index] ?? '';
    },
    go: () => void child.stdin.write('go\n'),
    end: () => void child.stdin.end(),
    ended,
  };
}

const disks = { blocks: smallDisk(4), files: smallDisk(4, 100) };
afterAll(() => Object.values(disks).forEach((disk) => void disk?.remove()));

/** Until there is no room. */
function fill(file: (n: number) => string): void {
  for (let n = 0; n < 10_000; n += 1) {
    try {
      writeFileSync(file(n), Buffer.alloc(4096), { flag: 'a' });
    } catch {
      return;
    }
  }
  throw new Error('the disk did not become full');
}

(disks.blocks === null || disks.files === null ? describe.skip : describe)('a worker that starts on a full disk', () => {
  it.each([
    ['one large file', 'blocks', () => 'big'],
    ['many files', 'files', (n: number) => `small-${n}`],
  ] as const)('of %s among a dead one’s temporary files removes these, and no more', async (_, kind, nameOf) => {
    const root = disks[kind]?.path ?? '';
    const attempt = `${workerFolder(root, 'host', DEAD)}/runs/${RUN}-1-ab12`;
    for (const folder of ['home', 'tmp']) mkdirSync(`${attempt}/${folder}`);
    for (const file of ['home/kept', 'log.ndjson']) writeFileSync(`${attempt}/${file}`, 'kept');
    fill((n) => `${attempt}/tmp/${nameOf(n)}`);
    const { name, left, gone } = await takeWorkFolder(root, 'host', false);
    const path = left[0]?.attempts[0]?.path ?? '';
    expect(name).toBe('host');
    expect(gone.map((one) => one.path)).toEqual([`${path}/tmp`]);
    expect(readdirSync(path).sort()).toEqual(['home', 'log.ndjson']);
    rmSync(`${root}/host`, { recursive: true });
    rmSync(left[0]?.path ?? '', { recursive: true });
  });

  it('removes the largest home that no run can live in any more, and a log only where nothing else is left', async () => {
    const root = disks.blocks?.path ?? '';
    const runs = `${workerFolder(root, 'host', DEAD)}/runs`;
    const [large, small] = [`${runs}/${RUN}-1-ab12`, `${runs}/${RUN}-2-ab13`];
    for (const attempt of [large, small]) {
      mkdirSync(`${attempt}/home`, { recursive: true });
      writeFileSync(`${attempt}/home/file`, Buffer.alloc(8192));
      writeFileSync(`${attempt}/log.ndjson`, 'kept');
    }
    fill(() => `${large}/home/file`);
    const first = await takeWorkFolder(root, 'host', false);
    expect(first.gone.map(({ path }) => path.slice(first.left[0]?.path.length))).toEqual([`/runs/${RUN}-1-ab12/home`]);
    // Another dies there with its log alone.
    for (const folder of [first.path, first.left[0]?.path ?? '']) rmSync(folder, { recursive: true });
    const log = `${workerFolder(root, 'host', DEAD)}/runs/${RUN}-1-ab12/log.ndjson`;
    fill(() => log);
    const second = await takeWorkFolder(root, 'host', false);
    expect(second.gone.map(({ path }) => path.split('/').at(-1))).toEqual(['log.ndjson']);
  });

  it('says so where there is nothing to remove', async () => {
    const root = `${disks.files?.path}/other`;
    mkdirSync(root);
    fill((n) => `${disks.files?.path}/filler-${n}`);
    await expect(takeWorkFolder(root, 'host', false)).rejects.toThrow(/expected a folder that can be written .*no space left/);
  });
});

describe('the log’s file that a dead worker left', () => {
  const line = (n: number, text = `text ${n}`): string => `${JSON.stringify({ line: n, atMs: n, source: 'stdout', text })}\n`;
  const cut = (from: number, to: number): string => `${JSON.stringify({ cut: { from, to } })}\n`;

  async function readAll(content: string | null): Promise<{ ndjson: string; ranges: [number, number][]; fault: string | null }> {
    count += 1;
    const path = `${temp.path}/spool-${count}`;
    if (content === null) symlinkSync('/etc/passwd', path);
    else writeFileSync(path, content);
    const ranges: [number, number][] = [];
    let ndjson = '';
    try {
      for await (const chunk of readLeftSpool(path)) {
        ranges.push([chunk.firstLine, chunk.lines]);
        ndjson += chunk.ndjson.toString();
      }
      return { ndjson, ranges, fault: null };
    } catch (cause) {
      return { ndjson, ranges, fault: String((cause as Error).message) };
    }
  }

  it('is read as it is, a cut as the lines that it stands for', async () => {
    const content = line(1) + line(2, 'ä\u0000\\"') + cut(3, 9) + line(10);
    expect(await readAll(content)).toEqual({ ndjson: content, ranges: [[1, 10]], fault: null });
    expect(await readAll('')).toEqual({ ndjson: '', ranges: [], fault: null });
  });

  it('may end in the middle of a line, which is left out unless it is whole but for its newline', async () => {
    expect(await readAll(line(1) + line(2).slice(0, 20))).toEqual({ ndjson: line(1), ranges: [[1, 1]], fault: null });
    expect(await readAll(line(1) + line(2).slice(0, -1))).toEqual({ ndjson: line(1) + line(2), ranges: [[1, 2]], fault: null });
    expect(await readAll(`${line(1)}${'\0'.repeat(5_000)}`)).toEqual({ ndjson: line(1), ranges: [[1, 1]], fault: null });
  });

  it.each([
    ['rubbish', `${line(1)}rubbish\n${line(2)}`],
    ['a line that is missing', line(1) + line(3)],
    ['a line twice', line(1) + line(1)],
    ['a cut backwards', line(1) + cut(2, 1)],
    ['the end of a log', `${line(1)}${JSON.stringify({ end: { lines: 1, bytes: 0, sha256: '', outcome: 'succeeded' } })}\n`],
    ['a line without end', line(1) + 'x'.repeat(16 * limits.logLineBytesMax)],
  ])('is read up to %s', async (_, content) => {
    expect(await readAll(content)).toMatchObject({ ndjson: line(1), ranges: [[1, 1]], fault: expect.stringContaining('log') });
  });

  it('is not read where it is a link', async () => {
    expect(await readAll(null)).toMatchObject({ ndjson: '', fault: expect.stringContaining('expected a regular file') });
  });

  it('is given in pieces as the archive keeps them', async () => {
    const lines = Array.from({ length: 60 }, (_, n) => line(n + 1, 'x'.repeat(limits.logLineBytesMax)));
    const { ndjson, ranges } = await readAll(lines.join(''));
    expect(ndjson).toBe(lines.join(''));
    expect(ranges.length).toBeGreaterThan(2);
    expect(ranges.reduce((sum, [, n]) => sum + n, 0)).toBe(60);
  });
});
