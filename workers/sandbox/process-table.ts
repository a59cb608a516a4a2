/** The machine's processes as /proc shows them, and which of them have a run's mark. */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { limits } from '../../src/job/limits.ts';

export interface Process {
  pid: number;
  parent: number;
}

export interface Found {
  found: Process[];
  /** There may be more: look again. */
  unsure: boolean;
}

const KERNEL_THREAD = 0x0020_0000;
/** How often a newcomer without an environment is looked at again. */
const EXEC_LOOKS_MAX = 20;

/** Every living process of the machine but the kernel's. */
export interface ProcessTable {
  processes: Process[];
  /** The last number given to a process before the table was read. */
  newest: number;
}

/** Synchronous, so that what is found is still there when a signal is sent. */
export function readProcesses(): ProcessTable {
  const newest = newestPid();
  const processes: Process[] = [];
  for (const name of readdirSync('/proc')) {
    const first = name.charCodeAt(0);
    if (first < 48 || first > 57) continue;
    const one = readProcess(name);
    if (one !== null) processes.push(one);
  }
  return { processes, newest };
}

/** The kernel counts upwards, and begins anew at the top. */
function newestPid(): number {
  return Number(read('/proc/loadavg').trim().split(' ').at(-1));
}

/** Null for one that is gone, a zombie, or a thread of the kernel. */
function readProcess(pid: number | string): Process | null {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ', 18);
  const state = fields[0];
  // A process whose first thread has ended looks dead while the others live.
  const isDead = (state === 'Z' || state === 'X') && Number(fields[17]) <= 1;
  if (fields.length < 18 || isDead || (Number(fields[6]) & KERNEL_THREAD) !== 0) return null;
  return { pid: Number(pid), parent: Number(fields[1]) };
}

/**
 * Those with the mark in their environment, or as an init's name, and their descendants. What has cleared its environment and lost its parent is not found.
 *
 * A process that is a new one every moment is never where a table is being read. So those that have come since are looked at
 * until there is none newer: then nothing can have passed the look by. Each of the run's is given to `seize` as soon as it is seen.
 */
export function processesMarked(mark: string, table: ProcessTable, seize: (newcomer: Process) => void): Found {
  const others = table.processes.filter((one) => one.pid !== process.pid);
  const found = new Map<number, Process>();
  let unsure = false;
  for (const one of others) {
    const whose = ownerOf(mark, one);
    if (whose === 'run') found.set(one.pid, one);
    else if (whose === 'unsure') unsure = true;
  }
  addDescendants(found, others);
  const newcomers = newcomersMarked(mark, table.newest, seize);
  for (const one of newcomers.found) found.set(one.pid, one);
  return { found: [...found.values()], unsure: unsure || newcomers.unsure };
}

function newcomersMarked(mark: string, since: number, seize: (newcomer: Process) => void): Found {
  const found: Process[] = [];
  const deadlineMs = performance.now() + limits.newcomersMsMax;
  let unsure = false;
  for (let seen = since, newest = newestPid(); newest !== seen; newest = newestPid()) {
    if (newest < seen || performance.now() > deadlineMs) return { found, unsure: true };
    for (let pid = seen + 1; pid <= newest; pid += 1) {
      const one = readProcess(pid);
      const whose = one === null ? 'other' : ownerOnceKnown(mark, one);
      if (whose === 'unsure') unsure = true;
      if (whose !== 'run' || one === null || isThread(pid)) continue;
      found.push(one);
      seize(one);
    }
    seen = newest;
  }
  return { found, unsure };
}

type Owner = 'run' | 'other' | 'unsure';

/** Unsure of one in the middle of an exec, when it has no environment, and of one whose environment belongs to another user. */
function ownerOf(mark: string, one: Process): Owner {
  const environ = read(`/proc/${one.pid}/environ`);
  if (environ.startsWith(`${mark}\0`) || environ.includes(`\0${mark}\0`)) return 'run';
  if (environ === '') return 'unsure';
  // An init that was no program of its own has overwritten its environment with its name (namespaces.pl).
  const isInit = !environ.includes('=') && read(`/proc/${one.pid}/cmdline`).startsWith(`builder-init-of ${mark}\0`);
  return isInit ? 'run' : 'other';
}

/** An exec takes less than a millisecond; a process that is gone meanwhile is nobody's. */
function ownerOnceKnown(mark: string, one: Process): Owner {
  for (let looks = 1; ; looks += 1) {
    const whose = ownerOf(mark, one);
    if (whose !== 'unsure' || looks === EXEC_LOOKS_MAX) return whose;
    if (readProcess(one.pid) === null) return 'other';
  }
}

/** Threads have numbers too, and /proc knows them though it does not list them. */
function isThread(pid: number): boolean {
  return Number(/^Tgid:\t(\d+)$/m.exec(read(`/proc/${pid}/status`))?.[1] ?? pid) !== pid;
}

function addDescendants(found: Map<number, Process>, young: readonly Process[]): void {
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const one of young) if (found.has(one.parent)) found.set(one.pid, one);
  }
}

export function commandOf(pid: number): string {
  const command = read(`/proc/${pid}/cmdline`, 'utf8') || `[${read(`/proc/${pid}/comm`, 'utf8').trim()}]`;
  const words = command.replace(/[\s\0]+/g, ' ').trim();
  return [...words].slice(0, limits.killedCommandCharsMax).join('');
}

/** Reused: readFileSync would allocate as much for each of a machine's processes. */
const chunk = Buffer.allocUnsafeSlow(64 * 1024);

/** Empty for what is gone or belongs to another user. */
function read(path: string, encoding: 'latin1' | 'utf8' = 'latin1'): string {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return '';
  }
  try {
    let text = '';
    for (;;) {
      const bytes = readSync(fd, chunk);
      text += chunk.toString(encoding, 0, bytes);
      if (bytes < chunk.length) return text;
    }
  } catch {
    return '';
  } finally {
    closeSync(fd);
  }
}
