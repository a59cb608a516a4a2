/** A worker that can open no more files for a while stores all that a run left, once it can. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { built } from '../support/other-user.ts';
import { tempFolder } from '../support/temp.ts';

const temp = tempFolder();
afterAll(() => temp.remove());

/**
 * Opens files until it may not, closes a few, collects as at the end of a run, and tells what its log says meanwhile. `give`: when
 * it closes the rest.
 */
const PROGRAM = `
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const [home, at, spare, give] = process.argv.slice(1);
(async () => {
  const { openFolderStore } = await import('${built('src/artifacts/folder-store.js')}');
  const { collectArtifacts } = await import('${built('workers/artifact-collector.js')}');
  const { patiently } = await import('${built('workers/patience.js')}');
  const store = await openFolderStore(at);
  execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=200']);
  const [held, notes, warnings] = [[], [], []];
  let refused;
  try { for (;;) held.push(fs.openSync('/dev/null')); } catch (cause) { refused = cause.code; }
  const close = (files) => files.forEach((file) => fs.closeSync(file));
  close(held.splice(0, Number(spare)));
  const giveAll = () => close(held.splice(0));
  const signal = new AbortController().signal;
  const note = async (text) => void notes.push(text);
  const warn = ({ error }) => {
    warnings.push(error);
    if (give === 'when told') giveAll();
  };
  if (give === 'soon') setTimeout(giveAll, 5 * ${limits.descriptorRetryMs});
  const artifacts = await patiently({ run: 'left', logger: { warn }, until: signal }, () =>
    collectArtifacts({ folder: home, scriptSha256: '', globs: [], inputs: [], store, note, signal }),
  );
  giveAll();
  for (const { sha256, bytes } of artifacts) if ((await store.statBlob(sha256)) !== bytes) notes.push('not stored: ' + sha256);
  console.log(JSON.stringify({ refused, warnings, artifacts: artifacts.length, notes }));
})();
`;

const TOLD = 'expected to open a file that the run left, got EMFILE: no more can be opened';

it.each([
  { give: 'soon', spare: 0, files: 3, warnings: [] },
  { give: 'when told', spare: 0, files: 3, warnings: [TOLD] },
  // Fewer than it would have open, as long as it lasts.
  { give: 'never', spare: 10, files: 20, warnings: [] },
])('leaves nothing out where no more can be opened: $spare to spare, others $give', ({ give, spare, files, warnings }) => {
  const [home, store] = [`${temp.path}/${give}/home`, `${temp.path}/${give}/store`];
  mkdirSync(`${home}/below`, { recursive: true });
  for (let n = 0; n < files; n += 1) {
    writeFileSync(`${home}/${n % 2 === 0 ? 'below/' : ''}${n}`, Buffer.alloc(limits.wholeFileBytesMax + 1, String(n)));
  }
  const args = ['-e', PROGRAM, home, store, String(spare), give];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 3 * limits.descriptorsMsMax });
  expect([stderr, JSON.parse(stdout || 'null')]).toEqual(['', { refused: 'EMFILE', warnings, artifacts: files, notes: [] }]);
});
