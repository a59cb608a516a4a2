/** How a contender stores what a script left, and the check that all of it is where it should be. */

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Store } from '../../src/artifacts/store.ts';
import type { Artifact } from '../../src/job/artifact.ts';
import { eachAtOnce } from '../../src/service/each.ts';
import { collectArtifacts } from '../../workers/artifact-collector.ts';
import { Void } from '../figure.ts';
import { digestOfFile, type LeftFile, type LeftFiles } from './artifact-files.ts';
import type { Command } from './spawning.ts';

export const AT_ONCE = 8;

/** As a run's end does it. */
export function collect({ folder }: LeftFiles, store: Store): Promise<Artifact[]> {
  const nothing = async (): Promise<void> => undefined;
  return collectArtifacts({ folder, scriptSha256: '', globs: [], inputs: [], store, note: nothing, signal: new AbortController().signal });
}

/** Milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begunAtMs = performance.now();
  await work();
  return performance.now() - begunAtMs;
}

/** Throws Void unless `open` gives every file's bytes. */
export async function checkStored({ files }: LeftFiles, open: (file: LeftFile) => Promise<Readable>): Promise<void> {
  await eachAtOnce(files, AT_ONCE, async (file) => {
    const hash = createHash('sha256');
    for await (const chunk of await open(file)) hash.update(chunk as Buffer);
    if (hash.digest('hex') !== file.sha256) throw new Void(`expected the bytes of ${file.path} in the store, got others`);
  });
}

export async function checkCopied({ files }: LeftFiles, folder: string): Promise<void> {
  await eachAtOnce(files, AT_ONCE, async ({ path, sha256 }) => {
    if ((await digestOfFile(join(folder, path))) !== sha256) throw new Void(`expected a copy of ${path}, got other bytes`);
  });
}

/** Throws Void unless the artifacts are those files. */
export function checkArtifacts({ files }: LeftFiles, artifacts: Artifact[]): void {
  const known = new Map(artifacts.map(({ path, sha256 }) => [path, sha256]));
  const wrong = files.find(({ path, sha256 }) => known.get(path) !== sha256);
  if (artifacts.length !== files.length || wrong !== undefined) {
    throw new Void(`expected ${files.length} artifacts by their digests, got ${artifacts.length}`);
  }
}

/** Runs a line of shell; its output. Throws Void where it fails. */
export function shell(line: string, folder: string, args: string[] = []): Promise<string> {
  const command: Command = ['/bin/sh', '-ec', line, 'sh', ...args];
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve(output) : reject(new Void(`expected exit code 0 of ${line}, got ${code}`))));
  });
}
