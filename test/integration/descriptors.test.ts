/** A worker that can open no more files for a while stores all that a run left, once it can. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { built } from '../support/other-user.ts';
import { tempFolder } from '../support/temp.ts';

const temp = tempFolder();
afterAll(() => temp.remove());

/** Opens files until it may not, collects, and closes them while it does. */
const PROGRAM = `
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const [home, at] = process.argv.slice(1);
(async () => {
  const { openFolderStore } = await import('${built('src/artifacts/folder-store.js')}');
  const { collectArtifacts } = await import('${built('workers/artifact-collector.js')}');
  const store = await openFolderStore(at);
  execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=200']);
  const [held, notes] = [[], []];
  let refused;
  try { for (;;) held.push(fs.openSync('/dev/null')); } catch (cause) { refused = cause.code; }
  const signal = new AbortController().signal;
  const note = async (text) => void notes.push(text);
  const collecting = collectArtifacts({ folder: home, scriptSha256: '', globs: [], inputs: [], store, note, signal });
  setTimeout(() => held.forEach((file) => fs.closeSync(file)), 5 * ${limits.descriptorRetryMs});
  const artifacts = await collecting;
  for (const { sha256, bytes } of artifacts) if ((await store.statBlob(sha256)) !== bytes) notes.push('not stored: ' + sha256);
  console.log(JSON.stringify({ refused, artifacts: artifacts.map(({ path }) => path), notes }));
})();
`;

it('leaves no file out because none could be opened for a moment', () => {
  const [home, store] = [`${temp.path}/home`, `${temp.path}/store`];
  mkdirSync(`${home}/below`, { recursive: true });
  const paths = ['below/other', 'file', 'large'];
  for (const path of paths) writeFileSync(`${home}/${path}`, path);
  writeFileSync(`${home}/large`, Buffer.alloc(limits.onePassBytesMin, 'large'));
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', PROGRAM, home, store], { encoding: 'utf8', timeout: 30_000 });
  expect([stderr, JSON.parse(stdout || 'null')]).toEqual(['', { refused: 'EMFILE', artifacts: paths, notes: [] }]);
});
