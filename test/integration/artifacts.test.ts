import { spawnSync } from 'node:child_process';
import { existsSync, linkSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import type { Store } from '../../src/artifacts/store.ts';
import type { Artifact, InputFile } from '../../src/job/artifact.ts';
import { limits } from '../../src/job/limits.ts';
import { collectArtifacts } from '../../workers/artifact-collector.ts';
import { sha256Of, sourceOf } from '../support/contents.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

const SCRIPT = Buffer.from('true\n');
let temp: TempFolder;
let store: Store;

beforeAll(async () => {
  temp = tempFolder();
  store = await openFolderStore(`${temp.path}/store`);
});

afterAll(async () => {
  await store.close();
  temp.remove();
});

async function stored(path: string, content: string, mode = 0o644): Promise<InputFile> {
  await store.putBlob(sourceOf(content));
  return { path, sha256: sha256Of(content), mode };
}

describe('collecting', () => {
  let home: string;
  let log: string[];
  let count = 0;

  beforeEach(() => {
    count += 1;
    home = `${temp.path}/home-${count}`;
    log = [];
    mkdirSync(home);
  });

  const collect = (given: { globs?: string[]; inputs?: InputFile[]; store?: Store; signal?: AbortSignal } = {}): Promise<Artifact[]> =>
    collectArtifacts({
      folder: home,
      scriptSha256: sha256Of(SCRIPT),
      globs: [],
      inputs: [],
      store,
      note: async (text) => void log.push(text),
      signal: new AbortController().signal,
      ...given,
    });
  const paths = (artifacts: Artifact[]): string[] => artifacts.map(({ path }) => path);

  it('stores every file with its mode and digest, and not the script', async () => {
    mkdirSync(`${home}/out/deep`, { recursive: true });
    writeFileSync(`${home}/out/deep/b`, 'two');
    writeFileSync(`${home}/.hidden`, '');
    writeFileSync(`${home}/tool`, 'x', { mode: 0o755 });
    linkSync(`${home}/tool`, `${home}/hard-link`);
    writeFileSync(`${home}/script.sh`, SCRIPT);
    const artifacts = await collect();
    expect(paths(artifacts)).toEqual(['.hidden', 'hard-link', 'out/deep/b', 'tool']);
    expect(artifacts[3]).toEqual({ path: 'tool', bytes: 1, mode: 0o755, sha256: sha256Of('x'), input: null, sameAs: null });
    for (const { sha256, bytes } of artifacts) expect(await store.statBlob(sha256)).toBe(bytes);
    expect(log).toEqual([]);
  });

  it.each(['a link to another folder', 'nothing'])('stores nothing, and says so, where %s is in the place of the folder', async (what) => {
    mkdirSync(`${home}-elsewhere`);
    writeFileSync(`${home}-elsewhere/not-of-the-run`, '');
    rmSync(home, { recursive: true });
    if (what !== 'nothing') symlinkSync(`${home}-elsewhere`, home);
    expect(await collect()).toEqual([]);
    expect(log).toEqual(['the folder of the run is gone, or is no folder any more: no file of it is stored']);
  });

  it('stores a script that changed itself', async () => {
    writeFileSync(`${home}/script.sh`, 'other');
    expect(paths(await collect())).toEqual(['script.sh']);
  });

  it('tells where artifacts overlap with inputs, by name and by content', async () => {
    const inputs = [await stored('same', 'same'), await stored('changed', 'before'), await stored('removed', 'moved')];
    writeFileSync(`${home}/same`, 'same');
    writeFileSync(`${home}/changed`, 'after');
    writeFileSync(`${home}/new-name`, 'moved');
    const artifacts = await collect({ inputs });
    expect(artifacts.map(({ path, input, sameAs }) => ({ path, input, sameAs }))).toEqual([
      { path: 'changed', input: 'changed', sameAs: null },
      { path: 'new-name', input: null, sameAs: 'removed' },
      { path: 'same', input: 'unchanged', sameAs: null },
    ]);
    expect(log.sort()).toEqual([
      'artifact new-name has the content of the input removed',
      'input changed was changed; the artifact of that name is another file',
      'input same was left unchanged',
    ]);
  });

  it('stores of many files at once what it stores of each alone', async () => {
    const inputs = [await stored('same', 'same'), await stored('changed', 'before'), await stored('removed', 'moved')];
    for (let index = 0; index < limits.threadFilesMin + 1; index += 1) writeFileSync(`${home}/${index}`, `${index}`);
    mkdirSync(`${home}/out`);
    for (const [path, content] of Object.entries({
      same: 'same',
      changed: 'after',
      'out/new-name': 'moved',
      empty: '',
      'script.sh': SCRIPT,
    })) {
      writeFileSync(`${home}/${path}`, content, { mode: 0o755 });
    }
    writeFileSync(`${home}/large`, Buffer.alloc(limits.wholeFileBytesMax + 1));
    symlinkSync('same', `${home}/link`);
    const other = await openFolderStore(`${temp.path}/other`);
    const alone = async (): Promise<Artifact[]> => {
      const { putFile, putBlob, settle } = other.openBatch();
      return collect({
        inputs,
        store: { ...other, openBatch: () => ({ ...(putFile === undefined ? {} : { putFile }), putBlob, settle }) },
      });
    };
    const artifacts = await collect({ inputs, store: other });
    const said = log.splice(0);
    expect(artifacts).toHaveLength(limits.threadFilesMin + 1 + 5);
    for (const { sha256, bytes } of artifacts) expect(await other.statBlob(sha256)).toBe(bytes);
    expect(await other.statBlob(sha256Of(SCRIPT))).toBeNull();
    expect([await alone(), log]).toEqual([artifacts, said]);
    await other.close();
  });

  it('tells the faults of a store that is away as of one file', async () => {
    for (let index = 0; index < limits.threadFilesMin; index += 1) writeFileSync(`${home}/${index}`, `${index} nowhere`);
    const away = await openFolderStore(`${temp.path}/away`);
    renameSync(`${temp.path}/away`, `${temp.path}/gone`);
    await expect(collect({ store: away })).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(existsSync(`${temp.path}/away`)).toBe(false);
    renameSync(`${temp.path}/gone`, `${temp.path}/away`);
    expect(await collect({ store: away })).toHaveLength(limits.threadFilesMin);
    await away.close();
  });

  it('skips links, fifos, sockets and unreadable names with a line each, whatever they point to', async () => {
    writeFileSync(`${home}/file`, 'f');
    symlinkSync('/etc/passwd', `${home}/absolute`);
    symlinkSync('nowhere', `${home}/dangling`);
    symlinkSync('.', `${home}/loop`);
    symlinkSync('/etc', `${home}/folder`);
    spawnSync('mkfifo', [`${home}/fifo`]);
    spawnSync('perl', ['-e', 'open F, ">", "$ARGV[0]/\\xff\\xfe"', home]);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(`${home}/socket`, resolve));
    const artifacts = await collect();
    await new Promise((resolve) => server.close(resolve));
    expect(paths(artifacts)).toEqual(['file']);
    expect(log.filter((line) => line.includes('symbolic links are not stored'))).toHaveLength(4);
    expect(log).toContain('skipped fifo: fifos are not stored');
    expect(log).toContain('skipped socket: sockets are not stored');
    expect(log.some((line) => line.includes('names that are not UTF-8'))).toBe(true);
  });

  it('takes what the patterns name, and says which of them match nothing', async () => {
    mkdirSync(`${home}/out`);
    for (const path of ['out/a.deb', 'out/.b.deb', 'out/c.txt', 'd.deb']) writeFileSync(`${home}/${path}`, path);
    expect(paths(await collect({ globs: ['out/*.deb', '*.rpm'] }))).toEqual(['out/.b.deb', 'out/a.deb']);
    expect(log).toEqual(['no file matches --artifact *.rpm']);
  });

  it('says much of one kind in a bounded number of lines', async () => {
    for (let n = 0; n < 100; n += 1) symlinkSync('nowhere', `${home}/link-${n}`);
    await collect();
    expect(log).toHaveLength(limits.notesPerKindMax + 1);
    expect(log.at(-1)).toBe(`skipped symbolic links: ${100 - limits.notesPerKindMax} more`);
  });

  it('stores ten thousand files', async () => {
    for (let n = 0; n < 10_000; n += 1) writeFileSync(`${home}/${n}`, `${n % 10}`);
    expect(await collect()).toHaveLength(10_000);
  });

  it('retries a file that changes while it is stored once, then skips it with a line', async () => {
    // A smaller file is stored as it was read at once.
    const busy = Buffer.alloc(limits.wholeFileBytesMax + 1);
    writeFileSync(`${home}/busy`, busy);
    writeFileSync(`${home}/calm`, 'calm');
    let stats = 0;
    const changing: Store = {
      ...store,
      openBatch: () => {
        const batch = store.openBatch();
        return {
          ...batch,
          putBlob: (source, signal) => {
            if (source.bytes === busy.length) {
              stats += 1;
              writeFileSync(`${home}/busy`, busy.fill(stats));
            }
            return batch.putBlob(source, signal);
          },
        };
      },
    };
    const artifacts = await collectArtifacts({
      folder: home,
      scriptSha256: sha256Of(SCRIPT),
      globs: [],
      inputs: [],
      store: changing,
      note: async (text) => void log.push(text),
      signal: new AbortController().signal,
    });
    expect(paths(artifacts)).toEqual(['calm']);
    expect(stats).toBe(2);
    expect(log).toEqual(['skipped busy: it changed while it was stored']);
  });

  it('stores large files, whether one as long came before or not, and looks only at an input that is there', async () => {
    const bytes = limits.onePassBytesMin + 3;
    const content = (seed: string): Buffer => Buffer.alloc(bytes, `${seed}\n`);
    writeFileSync(`${home}/first`, content('first'), { mode: 0o640 });
    const [first] = await collect();
    expect(first).toEqual({ path: 'first', bytes, mode: 0o640, sha256: sha256Of(content('first')), input: null, sameAs: null });
    writeFileSync(`${home}/second`, content('second'));
    const inputs = [{ path: 'first', sha256: sha256Of(content('first')), mode: 0o640 }];
    expect((await collect({ inputs })).map(({ path, input }) => [path, input])).toEqual([
      ['first', 'unchanged'],
      ['second', null],
    ]);
    for (const seed of ['first', 'second']) expect(await store.statBlob(sha256Of(content(seed)))).toBe(bytes);
    expect(log.join('\n')).toMatch(/^input first was left unchanged$/);
  });

  it('ends at once when it is given up', async () => {
    writeFileSync(`${home}/file`, 'f');
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(collect({ signal })).rejects.toThrow('enough');
    // Also the walk past files that nobody wants.
    await expect(collect({ signal, globs: ['*.none'] })).rejects.toThrow('enough');
  });
});
