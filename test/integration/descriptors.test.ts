/** A worker that can open no more files for a while stores all that a run left, once it can. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { built } from '../support/other-user.ts';
import { tempFolder } from '../support/temp.ts';

const temp = tempFolder();
afterAll(() => temp.remove());

/** Opens files until it may not, collects as at the end of a run, and closes them once that has been told to try again. */
const PROGRAM = `
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const [home, at, spare] = process.argv.slice(1);
(async () => {
  const { openFolderStore } = await import('${built('src/artifacts/folder-store.js')}');
  const { collectArtifacts } = await import('${built('workers/artifact-collector.js')}');
  const { patiently } = await import('${built('workers/patience.js')}');
  const store = await openFolderStore(at);
  execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=200']);
  const [held, notes, warnings] = [[], [], []];
  let refused;
  try { for (;;) held.push(fs.openSync('/dev/null')); } catch (cause) { refused = cause.code; }
  for (const file of held.splice(0, Number(spare))) fs.closeSync(file);
  const signal = new AbortController().signal;
  const note = async (text) => void notes.push(text);
  const warn = ({ error }) => {
    warnings.push(error);
    for (const file of held.splice(0)) fs.closeSync(file);
  };
  const artifacts = await patiently({ run: 'left', logger: { warn }, until: signal }, () =>
    collectArtifacts({ folder: home, scriptSha256: '', globs: [], inputs: [], store, note, signal }),
  );
  for (const { sha256, bytes } of artifacts) if ((await store.statBlob(sha256)) !== bytes) notes.push('not stored: ' + sha256);
  console.log(JSON.stringify({ refused, warnings, artifacts: artifacts.map(({ path }) => path), notes }));
})();
`;

it.each([
  ['a folder', 0, ['below/other', 'file'], 'scandir'],
  // The first one is open while it is read, by pieces.
  ['a file', 1, ['first', 'second'], 'open'],
])('tries again where it cannot open %s, and leaves nothing out', (name, spare, paths, call) => {
  const [home, store] = [`${temp.path}/${name}/home`, `${temp.path}/${name}/store`];
  for (const path of paths) {
    mkdirSync(dirname(`${home}/${path}`), { recursive: true });
    writeFileSync(`${home}/${path}`, Buffer.alloc(limits.wholeFileBytesMax + 1, path));
  }
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', PROGRAM, home, store, String(spare)], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  const warnings = [expect.stringMatching(`^expected to open what the run left, got EMFILE: too many open files, ${call} '`)];
  expect([stderr, JSON.parse(stdout || 'null')]).toEqual(['', { refused: 'EMFILE', warnings, artifacts: paths, notes: [] }]);
});
