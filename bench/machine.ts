/** The machine and the versions that a figure was measured with. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { REDIS_PROGRAM } from '../test/support/redis.ts';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGib: number;
  kernel: string;
  versions: Record<string, string>;
}

const PROGRAMS: Record<string, string[]> = {
  redis: [REDIS_PROGRAM, '--version'],
  bwrap: ['bwrap', '--version'],
  'task-spooler': ['tsp', '-V'],
  postgresql: ['psql', '--version'],
  slurm: ['slurmctld', '-V'],
};

export function describeMachine(): Machine {
  const versions: Record<string, string> = { node: process.version };
  for (const [name, [program = '', ...args]] of Object.entries(PROGRAMS)) {
    const { stdout, error } = spawnSync(program, args, { encoding: 'utf8' });
    const version = /\d+(?:\.\d+)+/.exec(stdout ?? '')?.[0];
    if (error === undefined && version !== undefined) versions[name] = version;
  }
  for (const name of ['bullmq', 'execa', 'minio', 'graphile-worker']) {
    const version = packageVersion(name);
    if (version !== null) versions[name] = version;
  }
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: `${release()} ${arch()}`,
    versions,
  };
}

function packageVersion(name: string): string | null {
  try {
    return JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')).version;
  } catch {
    return null;
  }
}
