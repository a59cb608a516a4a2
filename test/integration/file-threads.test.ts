/** Threads and their program: it ends while one starts, and stores artifacts where the machine allows it none, by a limit that root is not under. */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync } from 'node:fs';
import { afterAll, describe, expect, it } from '@jest/globals';
import { limits } from '../../src/job/limits.ts';
import { built, NOBODY, runAsNobody, whyNoOtherUser } from '../support/other-user.ts';
import { tempFolder } from '../support/temp.ts';

const folder = tempFolder();
afterAll(() => folder.remove());

const SMALL = limits.threadFilesMin;
const LARGE_BYTES = limits.onePassBytesMin;

/** Collects twice, tells how a thread of its own fares, and how many artifacts there are. */
const PROGRAM = `
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const { Worker } = require('node:worker_threads');
const [home, at] = process.argv.slice(1);
(async () => {
  const { openFolderStore } = await import('${built('src/artifacts/folder-store.js')}');
  const { collectArtifacts } = await import('${built('workers/artifact-collector.js')}');
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
  const program = `import('${built('src/artifacts/file-threads.js')}').then(async ({ fileThreads }) => console.log(await fileThreads.write([])));`;
  const { stdout, status } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8', timeout: 20_000 });
  // No answer: it was not ready.
  expect([stdout, status]).toEqual(['null\n', 0]);
});

const missing = whyNoOtherUser();
if (missing !== null) process.stderr.write(`artifacts without threads cannot be tested here: ${missing}\n`);

(missing === null ? describe : describe.skip)('a program that may start no thread', () => {
  it('stores all artifacts without one', () => {
    const [home, store] = ['home', 'store'].map((name) => `${folder.path}/${name}`) as [string, string];
    for (const path of [folder.path, home, store]) {
      mkdirSync(path, { recursive: true });
      chownSync(path, NOBODY, NOBODY);
    }
    const [stdout, stderr, status] = runAsNobody(PROGRAM, home, store);
    expect([stderr, status, JSON.parse(stdout || 'null')]).toEqual([
      '',
      0,
      { thread: expect.stringMatching(/^ERR_WORKER/), artifacts: [SMALL + 1, SMALL + 1], notes: [] },
    ]);
  });
});
