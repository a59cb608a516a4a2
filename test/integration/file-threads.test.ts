/** Threads and their program: it ends while one starts, and stores artifacts where the machine allows it none, by a limit that root is not under. */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { tempFolder } from '../support/temp.ts';

const NOBODY = 65_534;
const dist = fileURLToPath(new URL('../../dist/', import.meta.url));
const folder = tempFolder();
afterAll(() => folder.remove());

/** Another user must be able to read the programs. */
function whyNot(): string | null {
  if (process.getuid?.() !== 0) return 'only root can become another user';
  const reading = spawnSync(process.execPath, ['-e', `require('fs').readFileSync('${dist}workers/artifact-collector.js')`], {
    uid: NOBODY,
  });
  return reading.status === 0 ? null : 'another user cannot read the checkout';
}

const SMALL = limits.threadFilesMin;
const LARGE_BYTES = limits.onePassBytesMin;

/** Collects twice, tells how a thread of its own fares, and how many artifacts there are. */
const PROGRAM = `
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const { Worker } = require('node:worker_threads');
const [home, at] = process.argv.slice(1);
(async () => {
  const { openFolderStore } = await import('${pathToFileURL(`${dist}src/artifacts/folder-store.js`)}');
  const { collectArtifacts } = await import('${pathToFileURL(`${dist}workers/artifact-collector.js`)}');
  for (let index = 0; index < ${SMALL}; index += 1) fs.writeFileSync(home + '/' + index, String(index));
  fs.writeFileSync(home + '/large', Buffer.alloc(${LARGE_BYTES}, 'large'));
  const store = await openFolderStore(at);
  // Of the pool as well: all that the program has from here on.
  await Promise.all(Array.from({ length: 16 }, () => fs.promises.stat(home)));
  execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=' + fs.readdirSync('/proc/self/task').length]);
  const told = { thread: 'started', artifacts: [], notes: [] };
  try { new Worker('', { eval: true }); } catch (cause) { told.thread = cause.code; }
  for (let round = 0; round < 2; round += 1) {
    const signal = new AbortController().signal;
    const note = async (text) => void told.notes.push(text);
    const artifacts = await collectArtifacts({ folder: home, scriptSha256: '', globs: [], inputs: [], store, note, signal });
    for (const { sha256, bytes } of artifacts) if ((await store.statBlob(sha256)) !== bytes) told.notes.push('not stored: ' + sha256);
    told.artifacts.push(artifacts.length);
  }
  console.log(JSON.stringify(told));
})();
`;

it('a program ends by itself while its first thread starts', () => {
  const threads = pathToFileURL(`${dist}src/artifacts/file-threads.js`);
  const program = `import('${threads}').then(async ({ fileThreads }) => console.log(await fileThreads.write([])));`;
  const { stdout, status } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8', timeout: 20_000 });
  // No answer: it was not ready.
  expect([stdout, status]).toEqual(['null\n', 0]);
});

const missing = whyNot();
if (missing !== null) process.stderr.write(`artifacts without threads cannot be tested here: ${missing}\n`);

(missing === null ? describe : describe.skip)('a program that may start no thread', () => {
  it('stores all artifacts without one', () => {
    const [home, store] = ['home', 'store'].map((name) => `${folder.path}/${name}`) as [string, string];
    for (const path of [folder.path, home, store]) {
      mkdirSync(path, { recursive: true });
      chownSync(path, NOBODY, NOBODY);
    }
    const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', PROGRAM, home, store], {
      uid: NOBODY,
      gid: NOBODY,
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect([stderr, status, JSON.parse(stdout || 'null')]).toEqual([
      '',
      0,
      { thread: expect.stringMatching(/^ERR_WORKER/), artifacts: [SMALL + 1, SMALL + 1], notes: [] },
    ]);
  });
});
