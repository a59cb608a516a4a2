/** A PostgreSQL for a peer: a cluster of its own in a temporary folder, on a unix socket, with the durability that it has by default. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../test/support/until.ts';
import { Missing } from '../figure.ts';
import { installed } from './programs.ts';
import { scratchFolderAt } from './scratch.ts';

export interface BenchPostgres {
  connectionString: string;
  stop(): Promise<void>;
}

const USER = 'bench';
const DEBIAN = '/usr/lib/postgresql';

/** Throws Missing where it is not installed. */
export async function startPostgres(): Promise<BenchPostgres> {
  const programs = programFolder();
  // Not below the checkout: its folders may be closed to the user that PostgreSQL runs as.
  const { path: folder, remove } = scratchFolderAt(join(tmpdir(), 'builder-bench-pg-'));
  const as = unprivileged(folder);
  const data = `${folder}/data`;
  const initialize = [...as, `${programs}initdb`, '-D', data, '-U', USER, '--auth=trust', '--no-locale', '-E', 'UTF8', '--no-sync'];
  execFileSync(initialize[0] as string, initialize.slice(1), { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  const command = [...as, `${programs}postgres`, '-D', data, '-k', folder, '-c', 'listen_addresses='];
  const child = spawn(command[0] as string, command.slice(1), { cwd: folder, stdio: 'ignore' });
  const ready = [`${programs}pg_isready`, '-h', folder, '-U', USER];
  await until(() => succeeds(ready), 'PostgreSQL to answer');
  return {
    connectionString: `postgres://${USER}@${encodeURIComponent(folder)}/postgres`,
    stop: async () => {
      await endOf(child);
      remove();
    },
  };
}

/** Debian keeps the server's programs off the PATH. With a slash at its end; '' for the PATH. */
function programFolder(): string {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).toSorted((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((version) => `${DEBIAN}/${version}/bin/`), ''];
  const found = folders.find((folder) => installed(`${folder}initdb`, '--version'));
  if (found === undefined) throw new Missing('PostgreSQL is not installed: apt-get install postgresql');
  return found;
}

/** PostgreSQL refuses to run as root; its package brings a user. */
function unprivileged(folder: string): string[] {
  if (process.getuid?.() !== 0) return [];
  const ids = ['-u', '-g'].map((flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' })));
  chownSync(folder, ids[0] ?? 0, ids[1] ?? 0);
  return ['setpriv', `--reuid=${ids[0]}`, `--regid=${ids[1]}`, '--init-groups'];
}

function succeeds([program = '', ...args]: string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** SIGINT is its fast shutdown: clients are cut off, everything is written. */
async function endOf(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGINT');
  await ended;
}
