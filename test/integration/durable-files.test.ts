/** Names in a folder store that are durable already: whether a folder is synced shows where it is not there. */
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type DurableFiles, openDurableFiles, type Unsettled } from '../../src/artifacts/durable-files.ts';
import { tempFolder } from '../support/temp.ts';

const folder = tempFolder();
afterAll(() => folder.remove());

describe('names that are found again', () => {
  let root: string;
  let files: DurableFiles;
  let count = 0;
  const key = 'blobs/some/file';
  const at = (name = key): string => `${root}/${name}`;
  const removeFolder = (): void => renameSync(dirname(at()), at('blobs/away'));
  const unavailable = { code: 'store-unavailable' };
  beforeEach(async () => {
    count += 1;
    root = `${folder.path}/${count}`;
    files = await openDurableFiles(root);
    mkdirSync(dirname(at()), { recursive: true });
    writeFileSync(at(), 'content');
  });

  async function settled(): Promise<void> {
    const later: Unsettled = new Map();
    await files.confirm(key, statSync(at()), later);
    await files.settle(later);
  }

  it('are not synced again, in a batch or alone', async () => {
    await settled();
    const found = statSync(at());
    removeFolder();
    const later: Unsettled = new Map();
    await files.confirm(key, found, later);
    expect(later.size).toBe(0);
    await files.confirm(key, found);
  });

  it('are synced where they lead to another file than before', async () => {
    await settled();
    // A new file is there before the old one is gone, so that it cannot have its number.
    writeFileSync(at('new'), readFileSync(at()));
    renameSync(at('new'), at());
    const found = statSync(at());
    removeFolder();
    await expect(files.confirm(key, found)).rejects.toMatchObject(unavailable);
  });

  it('are synced until that has been done once', async () => {
    const later: Unsettled = new Map();
    const found = statSync(at());
    await files.confirm(key, found, later);
    removeFolder();
    await expect(files.settle(later)).rejects.toMatchObject(unavailable);
    await expect(files.confirm(key, found)).rejects.toMatchObject(unavailable);
    await expect(files.settle(later)).rejects.toMatchObject(unavailable);
    renameSync(at('blobs/away'), dirname(at()));
    await files.settle(later);
    removeFolder();
    await files.confirm(key, found);
  });
});
