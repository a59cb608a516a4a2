/** The machine and the versions that a figure was measured with. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { onPath } from '../test/support/programs.ts';
import { REDIS_PROGRAM } from '../test/support/redis.ts';
import { ROOT } from '../test/support/root.ts';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGib: number;
  kernel: string;
  /** Of the folder that all measured folders are in. */
  fileSystem: string;
  versions: Record<string, string>;
}

const PROGRAMS: Record<string, string[]> = {
  redis: [REDIS_PROGRAM, '--version'],
  bwrap: ['bwrap', '--version'],
  coreutils: ['sha256sum', '--version'],
  openssl: ['openssl', 'version'],
  perl: ['perl', '-e', 'print $^V'],
  'task-spooler': ['tsp', '-V'],
  postgresql: ['psql', '--version'],
  slurm: ['slurmctld', '-V'],
};

export function describeMachine(): Machine {
  const versions: Record<string, string> = { node: process.version };
  for (const [name, command] of Object.entries({ ...PROGRAMS, ...s3Program() })) {
    const version = programVersion(command);
    if (version !== null) versions[name] = version;
  }
  for (const name of ['bullmq', 'execa', 'minio', 'graphile-worker']) {
    const version = packageVersion(name);
    if (version !== null) versions[name === 'minio' ? 'minio client' : name] = version;
  }
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: `${release()} ${arch()}`,
    fileSystem: fileSystemOf(ROOT),
    versions,
  };
}

/** In the order in which one is looked for; nothing is told of a given server, or of one in a container. */
function s3Program(): Record<string, string[]> {
  if (process.env.BUILDER_TEST_S3_ENDPOINT) return {};
  return onPath('minio') ? { 'minio server': ['minio', '--version'] } : { 'Ceph radosgw': ['radosgw', '--version'] };
}

function programVersion([program = '', ...args]: string[]): string | null {
  const { stdout, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (error !== undefined) return null;
  return /RELEASE\.\S+|\d+(?:\.\d+)+/.exec(stdout)?.[0] ?? null;
}

function packageVersion(name: string): string | null {
  try {
    return JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')).version;
  } catch {
    return null;
  }
}

/** The type of the innermost mount, the last of those on one folder. */
function fileSystemOf(folder: string): string {
  let found = { at: '', type: 'unknown' };
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
    const [, at = '', type = ''] = line.split(' ');
    const isAbove = at !== '' && `${folder}/`.startsWith(at === '/' ? '/' : `${at}/`);
    if (isAbove && at.length >= found.at.length) found = { at, type };
  }
  return found.type;
}
