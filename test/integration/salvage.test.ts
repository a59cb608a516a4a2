import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import { readManifest } from '../../src/artifacts/manifest.ts';
import type { Store } from '../../src/artifacts/store.ts';
import { limits } from '../../src/job/limits.ts';
import { readArchived } from '../../src/logs/archive.ts';
import { connect, type Redis } from '../../src/redis/connection.ts';
import { createLogger } from '../../src/service/logger.ts';
import { writeAttemptNote } from '../../workers/attempt-note.ts';
import type { LeftFolder } from '../../workers/left-folders.ts';
import { startSalvage } from '../../workers/salvage.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { specOf } from '../support/specs.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

const CLAIM = 'ab12';
let redis: TestRedis;
let connection: Redis;
let temp: TempFolder;
let store: Store;

beforeAll(async () => {
  temp = tempFolder();
  redis = await startRedis();
  connection = connect(redis.url, 'command');
  store = await openFolderStore(`${temp.path}/store`);
});

afterAll(async () => {
  connection.disconnect();
  await store.close();
  await redis.stop();
  temp.remove();
});

interface Left {
  run: string;
  path: string;
  folder: LeftFolder;
}

const SPOOL = '{"line":1,"atMs":5,"source":"stdout","text":"said"}\n';

/** A taken folder with one attempt, of which Redis knows nothing. */
function leave(o: { spool?: string | null; note?: boolean; secrets?: string[] } = {}): Left {
  const run = randomUUID();
  const folder = `${temp.path}/workers/~${run}`;
  const path = `${folder}/runs/${run}-1-${CLAIM}`;
  mkdirSync(`${path}/home`, { recursive: true });
  writeFileSync(`${path}/home/left`, 'left');
  symlinkSync('/etc/passwd', `${path}/home/the-name-of-a-link`);
  if (o.spool !== null) writeFileSync(`${path}/log.ndjson`, o.spool ?? SPOOL);
  const spec = specOf({ id: run, secrets: o.secrets ?? [] });
  if (o.note !== false) writeAttemptNote(`${path}/attempt.json`, { spec, worker: 'dead', startedAt: spec.createdAt });
  return { run, path, folder: { path: folder, attempts: [{ path, run, attempt: 1, claim: CLAIM }], fault: null } };
}

async function salvage(left: Left[], o: { waitMs?: number; until?: AbortSignal } = {}): Promise<void> {
  const logger = createLogger('test', 'silent');
  const until = o.until ?? new AbortController().signal;
  const given = { left: left.map(({ folder }) => folder), redis: connection, store, logger, until };
  await startSalvage({ ...given, ...(o.waitMs === undefined ? {} : { waitMs: o.waitMs }) }).close();
}

const manifestOf = (left: Left) => readManifest(store, left.run, 1, CLAIM);
const archived = async (left: Left) =>
  (await readArchived(store, { run: left.run, attempt: 1, claim: CLAIM }, 1))?.ndjson.toString().split('\n') ?? [];

/** Nothing of this run can be stored: a file lies in the place of its folder. */
function shutStoreTo({ run }: Left): void {
  mkdirSync(`${temp.path}/store/runs`, { recursive: true });
  writeFileSync(`${temp.path}/store/runs/${run}`, '');
}

describe('an attempt that a dead worker left', () => {
  it('is stored, once, and its folder goes', async () => {
    const left = leave();
    await salvage([left]);
    expect(await manifestOf(left)).toMatchObject({
      ...{ outcome: 'superseded', reason: expect.stringMatching(/^superseded: /), worker: 'dead', log: { lines: 3, missing: 0 } },
      artifacts: [{ path: 'left' }],
    });
    expect(existsSync(left.folder.path)).toBe(false);
  });

  it('does not tell of files by name in the log of a run with secrets: a name may hold one', async () => {
    const [plain, secret] = [leave(), leave({ secrets: ['TOKEN'] })];
    await salvage([plain, secret]);
    const texts = async (left: Left) => JSON.stringify([await archived(left), (await manifestOf(left))?.log.lines]);
    expect(await texts(plain)).toContain('said');
    expect((await manifestOf(plain))?.log.lines).toBe(3);
    expect((await manifestOf(secret))?.log.lines).toBe(2);
    expect(await texts(secret)).not.toContain('the-name-of-a-link');
  });

  it.each([
    ['whose script never started', { spool: null }],
    ['of which nobody knows what it was', { note: false }],
  ])('%s leaves nothing', async (_, how) => {
    const left = leave(how);
    await salvage([left]);
    expect(await manifestOf(left)).toBeNull();
    expect(existsSync(left.folder.path)).toBe(false);
  });

  it('whose manifest is there already is left as it is', async () => {
    const left = leave();
    await store.putDocument(`runs/${left.run}/1-${CLAIM}/manifest.json`, Buffer.from('damaged'));
    await salvage([left]);
    expect((await store.getDocument(`runs/${left.run}/1-${CLAIM}/manifest.json`))?.toString()).toBe('damaged');
    expect(existsSync(left.folder.path)).toBe(false);
  });

  it('stays, as do all behind it, when the store is away for too long, but no longer than its time', async () => {
    const [fresh, behind, old] = [leave(), leave(), leave()];
    for (const one of [fresh, old]) shutStoreTo(one);
    const longAgo = (Date.now() - limits.leftAttemptMsMax) / 1000 - 60;
    utimesSync(`${old.path}/attempt.json`, longAgo, longAgo);
    await salvage([old, fresh, behind], { waitMs: 50 });
    expect([old, fresh, behind].map(({ folder }) => existsSync(folder.path))).toEqual([false, true, true]);
    expect(await manifestOf(behind)).toBeNull();
    await salvage([behind]);
    expect(await manifestOf(behind)).toMatchObject({ outcome: 'superseded' });
  });

  it('stays when the worker is told to stop', async () => {
    const left = leave();
    await salvage([left], { until: AbortSignal.abort('SIGTERM') });
    expect(existsSync(`${left.path}/log.ndjson`)).toBe(true);
    expect(await manifestOf(left)).toBeNull();
  });

  it('that may still live is not touched', async () => {
    const left = leave();
    await salvage([{ ...left, folder: { ...left.folder, fault: 'expected every process of the run to die' } }]);
    expect(existsSync(`${left.path}/log.ndjson`)).toBe(true);
  });
});
