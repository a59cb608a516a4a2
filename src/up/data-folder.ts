/** DIR of `up`: everything that is kept, owned by one living `up` at a time. */
import { randomBytes } from 'node:crypto';
import { chmod, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { BuilderError, oneLine } from '../service/errors.ts';
import { linkOnce } from '../service/link-once.ts';
import { makeFolder } from '../service/make-folder.ts';
import { identityOf, isAlive } from '../service/process-identity.ts';

export interface DataFolder {
  path: string;
  /** Holds the token that `up` made for its own producer; mode 0600. */
  tokenFile: string;
  token: string;
  redis: string;
  store: string;
  work: string;
  /** Where a program's output goes; what an earlier start wrote is kept up to a bound. */
  logFile(program: string): string;
  /** Remembers a child, so that the next `up` can wait for its end. */
  remember(program: string, pid: number): Promise<void>;
  /** Children of an `up` that died; they end by themselves when they notice. */
  orphans(): Promise<string[]>;
  /** Gives it back; what could not be started for the first time leaves nothing behind. */
  release(o: { served: boolean }): Promise<void>;
}

const LOG_BYTES_MAX = 16 * 1024 * 1024;
const PROGRAMS = ['redis', 'server', 'worker'];

/** Throws `bad-config` for a folder that cannot be written or that another `up` has. */
export async function openDataFolder(given: string): Promise<DataFolder> {
  const path = resolve(given);
  const own = (name: string): string => join(path, name);
  try {
    const isNew = await stat(path).then(
      () => false,
      () => true,
    );
    await makeFolder(path, 0o700);
    await takeLock(own('owner'));
    for (const folder of ['redis', 'store', 'work', 'logs', 'children']) await makeFolder(own(folder), 0o700);
    for (const program of PROGRAMS) await rotate(own(`logs/${program}.log`));
    return {
      path,
      tokenFile: own('token'),
      token: await readToken(own('token')),
      redis: own('redis'),
      store: own('store'),
      work: own('work'),
      logFile: (program) => own(`logs/${program}.log`),
      remember: async (program, pid) => writeWhole(own(`children/${program}`), String(await identityOf(pid))),
      orphans: async () => {
        const known = await Promise.all(PROGRAMS.map((program) => readFile(own(`children/${program}`), 'utf8').catch(() => '')));
        const alive = await Promise.all(known.map(isAlive));
        return known.filter((_, index) => alive[index]);
      },
      release: async ({ served }) => (isNew && !served ? rm(path, { recursive: true, force: true }) : rm(own('owner'), { force: true })),
    };
  } catch (cause) {
    if (cause instanceof BuilderError) throw cause;
    throw new BuilderError('bad-config', `expected a folder that can be written (--data), got ${path}: ${oneLine(cause)}`, { cause });
  }
}

/** A file that readers find whole, old or new; mode 0600. */
export async function writeWhole(path: string, text: string): Promise<void> {
  await makeFolder(dirname(path), 0o700);
  const temporary = `${path}.${process.pid}.new`;
  await writeFile(temporary, text, { mode: 0o600 });
  await rename(temporary, path);
}

async function takeLock(path: string): Promise<void> {
  const mine = String(await identityOf(process.pid));
  for (;;) {
    const owner = await readFile(path, 'utf8').catch(() => null);
    if (owner !== null && (await isAlive(owner))) {
      throw new BuilderError(
        'bad-config',
        `expected a data folder that no other builder uses, got ${dirname(path)}, which process ${owner.split(' ')[0]} has`,
      );
    }
    if (owner !== null) await rm(path, { force: true });
    if (await linkOnce(path, mine)) return;
  }
}

async function readToken(path: string): Promise<string> {
  const known = await readFile(path, 'utf8').catch(() => '');
  if (/^[\x21-\x7e]{16,}$/.test(known)) {
    await chmod(path, 0o600);
    return known;
  }
  const token = `bld_up_${randomBytes(32).toString('base64url')}`;
  await writeWhole(path, token);
  return token;
}

async function rotate(path: string): Promise<void> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LOG_BYTES_MAX) await rename(path, `${path}.1`);
}
