import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { PassThrough, type Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import type { Store } from '../../src/artifacts/store.ts';
import type { InputFile } from '../../src/job/artifact.ts';
import { limits } from '../../src/job/limits.ts';
import { createRunFolders, type RunFolder, type RunFolderOptions, type RunFolders } from '../../workers/run-folder.ts';
import { sha256Of, sourceOf } from '../support/contents.ts';
import { specOf } from '../support/specs.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const SCRIPT = Buffer.from('true\n');
let temp: TempFolder;
let store: Store;
let folders: RunFolders;

beforeAll(async () => {
  temp = tempFolder();
  store = await openFolderStore(`${temp.path}/store`);
  folders = createRunFolders(temp.path, 'all');
});

afterAll(async () => {
  await store.close();
  temp.remove();
});

async function stored(path: string, content: string, mode = 0o644): Promise<InputFile> {
  await store.putBlob(sourceOf(content));
  return { path, sha256: sha256Of(content), mode };
}

function create(made: RunFolders, o: Partial<RunFolderOptions> = {}): Promise<RunFolder> {
  const spec = specOf();
  const note = { spec, worker: 'w', startedAt: spec.createdAt };
  const { signal } = new AbortController();
  return made.create({ run: spec.id, attempt: 1, claim: 'c1', note, script: SCRIPT, inputs: [], store, signal, ...o });
}

describe('a run’s folder', () => {
  it('holds the script and its inputs, and nothing after it is removed', async () => {
    const inputs = [await stored('a.txt', 'A'), await stored('deep/er/tool', '#!/bin/sh\n', 0o775), await stored('empty', '')];
    const folder = await create(folders, { inputs });
    expect(readdirSync(folder.home).sort()).toEqual(['a.txt', 'deep', 'empty', 'script.sh']);
    expect(readFileSync(`${folder.home}/a.txt`, 'utf8')).toBe('A');
    expect(statSync(`${folder.home}/deep/er/tool`).mode & 0o777).toBe(0o775);
    expect(statSync(folder.scriptPath).mode & 0o777).toBe(0o755);
    expect(folder.spoolPath.startsWith(folder.home)).toBe(false);
    mkdirSync(`${folder.home}/shut`);
    writeFileSync(`${folder.home}/shut/x`, '');
    chmodSync(`${folder.home}/shut`, 0);
    await folder.retire(true);
    expect(existsSync(folder.root)).toBe(false);
  });

  it('is not made for an input that the store does not have', async () => {
    const inputs: InputFile[] = [{ path: 'lost', sha256: 'f'.repeat(64), mode: 0o644 }];
    const made = create(folders, { inputs });
    await expect(made).rejects.toMatchObject({ code: 'not-found', message: expect.stringContaining('the input lost') });
    expect(readdirSync(`${temp.path}/runs`)).toEqual([]);
  });

  it('is not waited for when its run is to end while inputs are on their way', async () => {
    const input = await stored('slow', 'comes never');
    for (const isOpened of [true, false]) {
      const stop = new AbortController();
      const content = new PassThrough();
      let asked = false;
      const getBlob = async (): Promise<Readable> => {
        asked = true;
        if (!isOpened) await once(stop.signal, 'abort');
        return content;
      };
      const made = create(folders, { inputs: [input], store: { ...store, getBlob }, signal: stop.signal });
      const told = expect(made).rejects.toThrow(/abort/i);
      await until(() => asked, 'the input to be on its way');
      stop.abort();
      await told;
      // Nobody else would end the connection that it comes by.
      expect([isOpened, content.destroyed]).toEqual([isOpened, true]);
      expect(readdirSync(`${temp.path}/runs`)).toEqual([]);
    }
  });

  it('is not made from damaged content', async () => {
    const input = await stored('damaged', 'as it was');
    writeFileSync(`${temp.path}/store/blobs/sha256/${input.sha256.slice(0, 2)}/${input.sha256}`, 'as it is!');
    const made = create(folders, { inputs: [input] });
    await expect(made).rejects.toThrow(/expected content with SHA-256/);
    expect(readdirSync(`${temp.path}/runs`)).toEqual([]);
  });
});

/** Which folder or file it is, though the number of one that is gone may be another's. */
function identityOf(path: string): string {
  const { ino, birthtimeNs } = statSync(path, { bigint: true });
  return `${ino} ${birthtimeNs}`;
}

describe('the folder of a run that left it as it was', () => {
  /** Folders of which one is not too new to serve twice. */
  async function withRested(): Promise<{ made: RunFolders; place: string }> {
    const place = `${temp.path}/${randomUUID()}`;
    const made = createRunFolders(place, 'all');
    await (await create(made)).retire(true);
    // A time of the file system that is another than that of the making.
    const trial = `${temp.path}/trial`;
    const { ctimeMs } = statSync(`${place}/spare/${readdirSync(`${place}/spare`)[0]}/home`);
    // The clock of the file system goes on.
    await until(() => {
      writeFileSync(trial, '');
      return statSync(trial).ctimeMs > ctimeMs + limits.fileClockTickMs;
    }, 'the clock of the file system');
    return { made, place };
  }

  it('serves the next, with that one’s script and note, and an empty log', async () => {
    const { made } = await withRested();
    const first = await create(made, { script: Buffer.from('echo a longer one\n') });
    writeFileSync(first.spoolPath, '{"line":1}\n', { mode: 0o600 });
    const inodes = [first.home, first.tmp, first.spoolPath, first.scriptPath].map(identityOf);
    await first.retire(true);
    expect(existsSync(first.root)).toBe(false);
    const second = await rested(made);
    expect([second.home, second.tmp, second.spoolPath, second.scriptPath].map(identityOf)).toEqual(inodes);
    expect(readFileSync(second.scriptPath, 'utf8')).toBe('true\n');
    expect(readFileSync(second.spoolPath, 'utf8')).toBe('');
    expect(JSON.parse(readFileSync(second.notePath, 'utf8')).spec.id).toBe(second.root.slice(-41, -5));
    expect(readdirSync(second.home)).toEqual(['script.sh']);
    await second.retire(true);
  });

  /** The one that was given back last: it rests a little. */
  async function rested(made: RunFolders): Promise<RunFolder> {
    const sinceMs = performance.now();
    await until(() => performance.now() - sinceMs > 2 * limits.fileClockTickMs, 'the folder to have rested');
    return create(made);
  }

  it.each<[string, (folder: RunFolder) => void, boolean]>([
    ['a process of it may live', () => undefined, false],
    ['it left a file', ({ home }) => writeFileSync(`${home}/a`, ''), true],
    ['it left a temporary file', ({ tmp }) => writeFileSync(`${tmp}/a`, ''), true],
    ['it left something beside its folders', ({ root }) => writeFileSync(`${root}/a`, ''), true],
    ['it changed the rights of its folder', ({ home }) => chmodSync(home, 0o755), true],
    ['it changed and restored them', ({ home }) => [0o755, 0o700].forEach((mode) => void chmodSync(home, mode)), true],
    ['it changed the times of its folder', ({ tmp }) => utimesSync(tmp, 1, 1), true],
    ['it changed the rights of its script', ({ scriptPath }) => chmodSync(scriptPath, 0o777), true],
    ['it changed its script', ({ scriptPath }) => appendFileSync(scriptPath, 'more\n'), true],
    ['it opened its root to others', ({ root }) => chmodSync(root, 0o777), true],
    ['it shut its root to its owner', ({ root }) => chmodSync(root, 0o500), true],
    ['it changed the rights of the note', ({ notePath }) => chmodSync(notePath, 0o666), true],
    ['it wrote into the note', ({ notePath }) => appendFileSync(notePath, ' '), true],
    ['it changed the rights of its log', ({ spoolPath }) => chmodSync(spoolPath, 0o444), true],
    ['its script has another name too', ({ scriptPath }) => linkSync(scriptPath, `${temp.path}/${randomUUID()}`), true],
    ['its log has another name too', ({ spoolPath }) => linkSync(spoolPath, `${temp.path}/${randomUUID()}`), true],
    ['its log is long', ({ spoolPath }) => writeFileSync(spoolPath, Buffer.alloc(limits.logEntryBytesMax + 1)), true],
  ])('serves no other where %s', async (_, change, endedAlone) => {
    const { made, place } = await withRested();
    const folder = await create(made);
    writeFileSync(folder.spoolPath, '', { mode: 0o600 });
    const known = identityOf(folder.home);
    const others = readdirSync(`${place}/spare`).length;
    change(folder);
    await folder.retire(endedAlone);
    expect(readdirSync(`${place}/runs`)).toEqual([]);
    // A new one took its place.
    expect(readdirSync(`${place}/spare`)).toHaveLength(others + 1);
    const next = await rested(made);
    expect(identityOf(next.home)).not.toBe(known);
    expect(readdirSync(next.home)).toEqual(['script.sh']);
    expect(statSync(next.home).mode & 0o777).toBe(0o700);
    await next.retire(true);
  });

  it.each<[string, (spare: string) => void]>([
    ['it is gone', (spare) => rmSync(spare, { recursive: true })],
    ['a part of it is gone', (spare) => rmSync(`${spare}/tmp`, { recursive: true })],
    ['there is something in it', (spare) => writeFileSync(`${spare}/home/a`, '')],
    [
      'its note is something else',
      (spare) => {
        rmSync(`${spare}/attempt.json`, { force: true });
        mkdirSync(`${spare}/attempt.json`);
      },
    ],
  ])('is not used where meanwhile %s', async (_, spoil) => {
    const { made, place } = await withRested();
    const used = await create(made);
    writeFileSync(used.spoolPath, '', { mode: 0o600 });
    await used.retire(true);
    for (const name of readdirSync(`${place}/spare`)) spoil(`${place}/spare/${name}`);
    const next = await rested(made);
    expect(readdirSync(next.home)).toEqual(['script.sh']);
    expect(readdirSync(next.tmp)).toEqual([]);
    expect(JSON.parse(readFileSync(next.notePath, 'utf8')).spec.id).toBe(next.root.slice(-41, -5));
    await next.retire(true);
  });
});

describe('the folder of a run that is kept apart from others', () => {
  const partsOf = ({ home, tmp, scriptPath }: RunFolder): string[] => [home, tmp, scriptPath].map((path) => identityOf(path));

  /** A folder that looks like one that a script was given. */
  const elsewhere = (): string => {
    const path = `${temp.path}/elsewhere`;
    mkdirSync(path);
    writeFileSync(`${path}/script.sh`, 'of somebody else\n');
    return path;
  };

  async function used(made: RunFolders): Promise<RunFolder> {
    const folder = await create(made);
    writeFileSync(folder.spoolPath, '{"line":1}\n', { mode: 0o600 });
    return folder;
  }

  it.each<[string, (folder: RunFolder) => void]>([
    ['nothing', () => undefined],
    ['files and folders', ({ home }) => void mkdirSync(`${home}/a/b`, { recursive: true })],
    ['a folder that is shut', ({ home }) => mkdirSync(`${home}/shut/in`, { recursive: true }) && chmodSync(`${home}/shut`, 0)],
    ['no script', ({ scriptPath }) => rmSync(scriptPath)],
    ['its own folder with other rights', ({ home }) => chmodSync(home, 0)],
    ['a link in the place of its folder', ({ home }) => void [rmSync(home, { recursive: true }), symlinkSync(elsewhere(), home)]],
  ])('serves the next but for what it was given: an open file may be in the hands of another run; it left %s', async (_, leave) => {
    const made = createRunFolders(`${temp.path}/${randomUUID()}`, 'own');
    const first = await used(made);
    const own = [first.root, first.notePath, first.spoolPath].map(identityOf);
    const parts = partsOf(first);
    leave(first);
    await first.retire(true);
    expect(existsSync(first.root)).toBe(false);
    const second = await create(made);
    expect([second.root, second.notePath, second.spoolPath].map(identityOf)).toEqual(own);
    for (const part of partsOf(second)) expect(parts).not.toContain(part);
    expect(readFileSync(second.spoolPath, 'utf8')).toBe('');
    expect(JSON.parse(readFileSync(second.notePath, 'utf8')).spec.id).toBe(second.root.slice(-41, -5));
    expect([readdirSync(second.home), readdirSync(second.tmp)]).toEqual([['script.sh'], []]);
    expect([second.home, second.tmp, second.scriptPath].map((path) => statSync(path).mode & 0o777)).toEqual([0o700, 0o700, 0o755]);
    await second.retire(true);
  });

  it('serves none where scripts reach the worker’s part of it too', async () => {
    const place = `${temp.path}/${randomUUID()}`;
    const made = createRunFolders(place, 'nothing');
    await (await used(made)).retire(true);
    expect([readdirSync(`${place}/runs`), readdirSync(`${place}/spare`)]).toEqual([[], []]);
  });

  it('is for later while many others are being taken away', async () => {
    const made = createRunFolders(`${temp.path}/${randomUUID()}`, 'own');
    const all = await Promise.all(Array.from({ length: limits.foldersGoingMax }, () => used(made)));
    for (const { home } of all) for (let n = 0; n < 200; n += 1) writeFileSync(`${home}/${n}`, '');
    let gone = 0;
    const retired = all.map((one) => one.retire(true).then(() => (gone += 1)));
    expect(await made.roomWithin(0)).toBe(false);
    expect(await made.roomWithin(60_000)).toBe(true);
    expect(gone).toBeGreaterThan(0);
    await made.settled();
    expect(gone).toBe(all.length);
    await Promise.all(retired);
  });

  it('is removed without what its links point to', () => {
    expect(readFileSync(`${temp.path}/elsewhere/script.sh`, 'utf8')).toBe('of somebody else\n');
  });

  it.each<[string, (folder: RunFolder) => void, boolean]>([
    ['a process of it may live', () => undefined, false],
    ['there is something beside its parts', ({ root }) => writeFileSync(`${root}/a`, ''), true],
    ['its root is open to others', ({ root }) => chmodSync(root, 0o777), true],
    ['its note was written to', ({ notePath }) => appendFileSync(notePath, ' '), true],
    ['its log has another name too', ({ spoolPath }) => linkSync(spoolPath, `${temp.path}/${randomUUID()}`), true],
  ])('serves no other where %s', async (_, change, endedAlone) => {
    const made = createRunFolders(`${temp.path}/${randomUUID()}`, 'own');
    const first = await used(made);
    const known = identityOf(first.root);
    change(first);
    await first.retire(endedAlone);
    const second = await create(made);
    expect(identityOf(second.root)).not.toBe(known);
    await second.retire(true);
  });
});
