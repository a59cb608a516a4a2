/** The command line of bwrap as a worker writes it, taken from a run of its own, so that the baseline cannot drift from it. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { until } from '../../test/support/until.ts';
import { Missing } from '../figure.ts';
import { PLATFORM, startPool } from './pool.ts';
import { installed } from './programs.ts';
import type { Command } from './spawning.ts';

export interface BwrapCommand {
  /** bwrap with all its arguments up to the program that is PID 1 inside. */
  start: Command;
  /** Removes the folders that the arguments name. */
  remove(): void;
}

/**
 * Executes one run under bwrap, reads what bwrap was started with, and makes the folders that it names again: they went with the run.
 * Throws Missing where there is no bwrap.
 */
export async function takeBwrapCommand(): Promise<BwrapCommand> {
  if (!installed('bwrap', '--version')) throw new Missing('bwrap is not installed: apt-get install bubblewrap');
  const pool = await startPool({ workers: 1, concurrency: 1, sandbox: 'bwrap' });
  let words: string[];
  let kinds: Map<string, 'file' | 'folder'>;
  try {
    const [id = ''] = await pool.submit([{ platform: PLATFORM, script: 'exec sleep 600' }]);
    words = await until(() => bwrapOf(pool.folder), 'a process of bwrap');
    kinds = new Map(words.filter((word) => word.startsWith('/') && existsSync(word)).map((path) => [path, kindOf(path)]));
    await pool.post(`/runs/${id}/cancel`, {});
    await pool.idle();
  } finally {
    await pool.close();
  }
  const made: string[] = [];
  for (const [path, kind] of kinds) {
    made.push(mkdirSync(kind === 'folder' ? path : dirname(path), { recursive: true }) ?? '');
    if (kind === 'file' && !existsSync(path)) writeFileSync(path, 'true\n');
  }
  return {
    start: withoutDescriptors(words.slice(0, words.indexOf('--') + 1)) as unknown as Command,
    remove: () => {
      for (const path of made.filter((name) => name !== '')) rmSync(path, { recursive: true, force: true });
    },
  };
}

/** The words of the process that binds something of this folder. */
function bwrapOf(folder: string): string[] | null {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
      if (words[0]?.endsWith('bwrap') && words.includes('--') && words.some((word) => word.startsWith(folder))) return words;
    } catch {
      // It has just ended.
    }
  }
  return null;
}

function kindOf(path: string): 'file' | 'folder' {
  return statSync(path).isDirectory() ? 'folder' : 'file';
}

/** `--info-fd 5` and its like speak with whoever started it; the baseline has nobody to speak with. */
function withoutDescriptors(words: string[]): string[] {
  return words.filter((word, index) => !/^--.*-fd$/.test(word) && !/^--.*-fd$/.test(words[index - 1] ?? ''));
}
