/** Wall clocks of single programs, which tests put forward and back while their monotonic clocks go on: libfaketime, preloaded. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Clock {
  /** For the environment of the program, or programs, that shall have this clock. */
  env: Record<string, string>;
  /** Makes it differ from the true one by so much, at once. */
  set(offsetMs: number): void;
}

const LIBRARY = 'faketime/libfaketimeMT.so.1';
const SHARED = '/dev/shm';
/** Before the allocator that Redis brings: the two of them wait for one another at their start. */
const C_LIBRARY = 'libc.so.6';

/** A clock kept in a file of that name. Null, with a line that says so, where `program` cannot be given one. */
export function clockOf(program: string, file: string): Clock | null {
  const library = libraryPath();
  if (library === null) return none(`no ${LIBRARY} (package faketime)`);
  const set = (offsetMs: number): void => {
    writeFileSync(`${file}.next`, `${offsetMs < 0 ? '' : '+'}${offsetMs / 1000}\n`);
    renameSync(`${file}.next`, file);
  };
  set(0);
  const env = {
    LD_PRELOAD: `${library} ${join(library, '../..', C_LIBRARY)}`,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
  const tried = spawnSync(program, ['--version'], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout: 5_000,
    killSignal: 'SIGKILL',
  });
  if (tried.status !== 0) return none(`${program} does not run under it (${(tried.stderr ?? '').trim().split('\n').at(-1)})`);
  return { env, set };
}

/** Removes what programs with such clocks share memory by, and leave when they are killed. */
export function sweepClocks(): void {
  for (const name of readdirSync(SHARED)) {
    const pid = /^(?:sem\.)?faketime_(?:shm|sem)_(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(SHARED, name), { force: true });
  }
}

function none(why: string): null {
  process.stderr.write(`skipped: clocks that jump: ${why}\n`);
  return null;
}

function libraryPath(): string | null {
  const folders = readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu'));
  return folders.map((name) => join('/usr/lib', name, LIBRARY)).find((path) => existsSync(path)) ?? null;
}
