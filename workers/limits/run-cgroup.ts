/** The control groups of one run: made before its script, gone after it, found again by the next worker if this one dies. */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readdir, rmdir, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../../src/artifacts/durable-files.ts';
import { limits } from '../../src/job/limits.ts';
import type { Killed, RunOptions } from '../../src/job/run.ts';
import { BuilderError, oneLine } from '../../src/service/errors.ts';
import { readRegular } from '../regular-file.ts';
import type { Cgroups, Controller } from './cgroups.ts';

export interface RunCgroup {
  /** Open `cgroup.procs` files: a process that writes `0` to one is in that group, wherever its namespaces are. */
  enter: number[];
  /** How many of its processes the kernel has killed for want of memory. */
  oomKills(): number;
  /** Kills what is still in them after the script's end, where no namespace has done so, and tells it by name. */
  endLeft(commandOf: (pid: number) => string): Promise<Killed[]>;
  /** Kills what is still in them, then removes them. Rejects when they cannot be removed. */
  close(): Promise<void>;
}

export interface RunCgroupOptions {
  cgroups: Cgroups;
  spec: Pick<RunOptions, 'memoryBytes' | 'cpus' | 'pids'>;
  claim: string;
  /** Written before the groups are made: what removeLeftCgroups reads. */
  notePath: string;
}

const CPU_PERIOD_US = 100_000;
/** Of statfs(2): cgroup and cgroup2. */
const CGROUP_MAGIC = new Set([0x27e0eb, 0x63677270]);
const PAUSE_MS = 2;
const NOTE_BYTES_MAX = 64 * 1024;

/** Null when the run asks for nothing that can be enforced so. Throws BuilderError `internal`; nothing is left then. */
export function openRunCgroup(o: RunCgroupOptions): RunCgroup | null {
  const settings = settingsOf(o);
  const folders = [...new Set(settings.map(({ folder }) => folder))];
  if (folders.length === 0) return null;
  const enter: number[] = [];
  const close = async (): Promise<void> => {
    for (const fd of enter.splice(0)) closeSync(fd);
    for (const folder of folders) await removeCgroup(folder);
  };
  try {
    writeFileSync(o.notePath, JSON.stringify(folders), { mode: 0o600 });
    for (const folder of folders) mkdirSync(folder);
    for (const { folder, file, value, optional } of settings) {
      if (!optional || existsSync(join(folder, file))) writeFileSync(join(folder, file), value);
    }
    for (const folder of folders) enter.push(openSync(join(folder, 'cgroup.procs'), 'w'));
  } catch (cause) {
    void close().catch(() => undefined);
    throw new BuilderError('internal', `expected to make the run's control groups, got ${oneLine(cause)}`, { cause });
  }
  const memory = settings.find(({ controller }) => controller === 'memory');
  return {
    enter,
    close,
    endLeft: (commandOf) => endLeft(folders, commandOf),
    oomKills: () => (memory === undefined ? 0 : oomKillsIn(memory.folder)),
  };
}

/** What a worker that died has left, by the note that it wrote. */
export async function removeLeftCgroups(notePath: string, claim: string): Promise<void> {
  const text = (await readRegular(notePath, NOTE_BYTES_MAX)) ?? '[]';
  for (const folder of foldersOf(text)) {
    // A script that runs as the worker's user may have written the note itself.
    const ours = basename(folder) === nameOf(claim) && CGROUP_MAGIC.has((await statfs(folder).catch(() => null))?.type ?? 0);
    if (ours) await removeCgroup(folder);
  }
}

function foldersOf(text: string): string[] {
  try {
    const folders: unknown = JSON.parse(text);
    return Array.isArray(folders) ? folders.filter((one) => typeof one === 'string') : [];
  } catch {
    return [];
  }
}

function nameOf(claim: string): string {
  return `builder-${claim}`;
}

interface Setting {
  controller: Controller;
  folder: string;
  file: string;
  value: string;
  /** Not every kernel has it. */
  optional?: true;
}

function settingsOf({ cgroups, spec, claim }: RunCgroupOptions): Setting[] {
  const settings: Setting[] = [];
  const add = (controller: Controller, files: Record<1 | 2, [string, string, 'optional'?][]>): void => {
    const hierarchy = cgroups[controller];
    if (typeof hierarchy === 'string') return;
    const folder = join(hierarchy.base, nameOf(claim));
    for (const [file, value, optional] of files[hierarchy.version]) {
      settings.push({ controller, folder, file, value, ...(optional ? { optional: true } : {}) });
    }
  };
  if (spec.memoryBytes !== null) {
    const bytes = String(spec.memoryBytes);
    // Swap would only make the death a slow one.
    add('memory', {
      1: [
        ['memory.limit_in_bytes', bytes],
        ['memory.memsw.limit_in_bytes', bytes, 'optional'],
      ],
      2: [
        ['memory.max', bytes],
        ['memory.swap.max', '0', 'optional'],
      ],
    });
  }
  if (spec.cpus !== null) {
    const quota = String(Math.round(spec.cpus * CPU_PERIOD_US));
    add('cpu', {
      1: [
        ['cpu.cfs_period_us', String(CPU_PERIOD_US)],
        ['cpu.cfs_quota_us', quota],
      ],
      2: [['cpu.max', `${quota} ${CPU_PERIOD_US}`]],
    });
  }
  if (spec.pids !== null) add('pids', { 1: [['pids.max', String(spec.pids)]], 2: [['pids.max', String(spec.pids)]] });
  return settings;
}

function oomKillsIn(folder: string): number {
  const file = ['memory.events', 'memory.oom_control'].map((name) => join(folder, name)).find((path) => existsSync(path));
  return file === undefined ? 0 : Number(/^oom_kill (\d+)$/m.exec(readFileSync(file, 'utf8'))?.[1] ?? 0);
}

/** Bounded: what the kernel does not let go of is the fault of `close`. */
async function endLeft(folders: string[], commandOf: (pid: number) => string): Promise<Killed[]> {
  const killed = new Map<number, string>();
  const deadlineMs = performance.now() + limits.cgroupRemoveMsMax;
  for (let left = folders.flatMap(pidsIn); left.length > 0 && performance.now() < deadlineMs; left = folders.flatMap(pidsIn)) {
    for (const pid of left) {
      if (killed.size < limits.killedListedMax && !killed.has(pid)) killed.set(pid, commandOf(pid));
      killOne(pid);
    }
    await delay(PAUSE_MS);
  }
  return [...killed].map(([pid, command]) => ({ pid, command }));
}

/** Also of the groups that the script has made below. */
function pidsIn(folder: string): number[] {
  try {
    const below = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    const own = readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').map(Number);
    return [...own.filter((pid) => pid > 0), ...below.flatMap(({ name }) => pidsIn(join(folder, name)))];
  } catch {
    return [];
  }
}

/** A folder that is not there is no fault. */
async function removeCgroup(folder: string): Promise<void> {
  const deadlineMs = performance.now() + limits.cgroupRemoveMsMax;
  for (;;) {
    try {
      await rmdir(folder);
      return;
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return;
      if (performance.now() > deadlineMs) {
        throw new BuilderError('internal', `expected to remove the control group ${folder}, got ${oneLine(cause)}`, { cause });
      }
    }
    await empty(folder);
    await delay(PAUSE_MS);
  }
}

/** Groups that the script has made below go first. */
async function empty(folder: string): Promise<void> {
  const below = (await readdir(folder, { withFileTypes: true }).catch(() => [])).filter((entry) => entry.isDirectory());
  for (const { name } of below) await removeCgroup(join(folder, name));
  try {
    if (existsSync(join(folder, 'cgroup.kill'))) return writeFileSync(join(folder, 'cgroup.kill'), '1');
    for (const pid of readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').map(Number)) if (pid > 0) killOne(pid);
  } catch {
    // It is gone, or going; rmdir tells.
  }
}

function killOne(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}
