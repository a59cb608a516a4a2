/** Peer: Slurm with one controller, one node and many small jobs as its guide has them: a job array, and a controller that looks for work often. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePorts } from '../../test/support/free-ports.ts';
import { until } from '../../test/support/until.ts';
import { type Contender, Missing, Void } from '../figure.ts';
import { installed } from '../support/programs.ts';
import { scratchFolderAt } from '../support/scratch.ts';

const POLL_MS = 10;
const PROGRAMS = ['munged', 'slurmctld', 'slurmd', 'sbatch'];

export function slurm(o: { runs: number; slots: number }): Contender {
  return {
    name: 'Slurm',
    kind: 'peer',
    setting: `one node with ${o.slots} slots, one job array of ${o.runs}, sched_interval 1 s, no accounting, output to /dev/null`,
    open: async () => {
      const missing = PROGRAMS.find((program) => !installed(program, '-V'));
      if (missing !== undefined) throw new Missing(`${missing} is not installed: apt-get install slurmctld slurmd slurm-client munge`);
      const cluster = await startCluster(o.slots);
      const submit = ['--array', `0-${o.runs - 1}`, '--output', '/dev/null', '--job-name', 'bench', '--wrap', 'true'];
      let before = 0;
      return {
        measure: async () => {
          const begunAtMs = performance.now();
          execFileSync('sbatch', submit, { env: cluster.env, cwd: cluster.folder, stdio: ['ignore', 'ignore', 'inherit'] });
          // sbatch --wait looks every few seconds; this file has a line as soon as a job has ended.
          while (cluster.ended().length < before + o.runs) await delay(POLL_MS);
          const tookMs = performance.now() - begunAtMs;
          const succeeded = cluster
            .ended()
            .slice(before)
            .filter((line) => / JobState=COMPLETED .* ExitCode=0:0/.test(line)).length;
          before += o.runs;
          if (succeeded !== o.runs) throw new Void(`expected ${o.runs} jobs to succeed, got ${succeeded}`);
          return { rate: (o.runs * 1000) / tookMs };
        },
        close: cluster.stop,
      };
    },
  };
}

interface Cluster {
  folder: string;
  env: Record<string, string>;
  /** A line for each job that has ended. */
  ended(): string[];
  stop(): Promise<void>;
}

async function startCluster(slots: number): Promise<Cluster> {
  // Not below the checkout: munge refuses a key and a socket in folders that others may write to.
  const { path: folder, remove } = scratchFolderAt(join(tmpdir(), 'builder-bench-slurm-'));
  chmodSync(folder, 0o755);
  for (const name of ['state', 'spool', 'munge', 'log']) mkdirSync(`${folder}/${name}`);
  writeFileSync(`${folder}/munge/key`, randomBytes(1024), { mode: 0o400 });
  const ports = await freePorts(2);
  writeFileSync(`${folder}/slurm.conf`, `${configuration(folder, slots, ports).join('\n')}\n`);
  const env = { PATH: process.env.PATH ?? '', SLURM_CONF: `${folder}/slurm.conf` };
  const programs: ChildProcess[] = [];
  const start = (program: string, args: string[]): void => void programs.push(spawn(program, args, { cwd: folder, env, stdio: 'ignore' }));
  const munge = Object.entries({ socket: 'socket', 'key-file': 'key', 'pid-file': 'pid', 'log-file': 'log', 'seed-file': 'seed' });
  start('munged', ['--foreground', '--force', ...munge.map(([flag, file]) => `--${flag}=${folder}/munge/${file}`)]);
  await until(() => existsSync(`${folder}/munge/socket`), 'munged to listen');
  start('slurmctld', ['-D', '-c', '-i']);
  start('slurmd', ['-D']);
  const state = (): string => execFileSync('sinfo', ['--noheader', '--format', '%T'], { env, encoding: 'utf8', stdio: 'pipe' }).trim();
  await until(() => attempt(state) === 'idle', 'the node of Slurm to be idle');
  const file = `${folder}/jobs`;
  return {
    folder,
    env,
    ended: () => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []),
    stop: async () => {
      for (const child of programs.toReversed()) await endOf(child);
      remove();
    },
  };
}

/** https://slurm.schedmd.com/high_throughput.html, as far as it concerns one node; control groups are left out on both sides. */
function configuration(folder: string, slots: number, [controller, node]: number[]): string[] {
  const name = hostname().split('.')[0];
  const user = userInfo().username;
  return [
    'ClusterName=bench',
    `SlurmctldHost=${name}(127.0.0.1)`,
    `SlurmctldPort=${controller}`,
    `SlurmdPort=${node}`,
    `SlurmUser=${user}`,
    `SlurmdUser=${user}`,
    'AuthType=auth/munge',
    `AuthInfo=socket=${folder}/munge/socket`,
    'CredType=cred/munge',
    `StateSaveLocation=${folder}/state`,
    `SlurmdSpoolDir=${folder}/spool`,
    `SlurmctldPidFile=${folder}/slurmctld.pid`,
    `SlurmdPidFile=${folder}/slurmd.pid`,
    `SlurmctldLogFile=${folder}/log/slurmctld.log`,
    `SlurmdLogFile=${folder}/log/slurmd.log`,
    'SlurmctldDebug=error',
    'SlurmdDebug=error',
    'ProctrackType=proctrack/linuxproc',
    'TaskPlugin=task/none',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_CPU',
    // As many slots as asked for, whatever the machine has.
    'SlurmdParameters=config_overrides',
    'SchedulerType=sched/backfill',
    'SchedulerParameters=sched_interval=1,sched_min_interval=1000,default_queue_depth=10000,bf_interval=1',
    'MaxArraySize=100001',
    'MaxJobCount=100000',
    'MpiDefault=none',
    'ReturnToService=2',
    'JobCompType=jobcomp/filetxt',
    `JobCompLoc=${folder}/jobs`,
    'AccountingStorageType=accounting_storage/none',
    'JobAcctGatherType=jobacct_gather/none',
    `NodeName=${name} NodeAddr=127.0.0.1 CPUs=${slots} State=UNKNOWN`,
    `PartitionName=bench Nodes=${name} Default=YES MaxTime=INFINITE State=UP`,
  ];
}

function attempt(ask: () => string): string {
  try {
    return ask();
  } catch {
    return 'no answer';
  }
}

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}
