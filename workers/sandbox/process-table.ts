/** The machine's processes as /proc shows them, and which of them belong to a run. */
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { limits } from '../../src/job/limits.ts';

export interface Process {
  pid: number;
  parent: number;
  group: number;
  session: number;
  stopped: boolean;
  /** In the kernel's ticks since it started. */
  startTicks: number;
}

/** What tells a run's processes without namespaces. */
export interface RunIdentity {
  /** The leader's PID: its group and its session have the same number. */
  leader: number;
  /** No process of the run has started before. */
  startTicks: number;
  mark: string;
}

export interface RunProcesses {
  found: Process[];
  /** There may be more: look again. */
  unsure: boolean;
}

const KERNEL_THREAD = 0x0020_0000;
/** How often a newcomer without an environment is looked at again. */
const EXEC_LOOKS_MAX = 20;
const CLAIM_ENTRY = /(?:^|\0)BUILDER_CLAIM=/;

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

let nextLook: Promise<ProcessTable> | null = null;

/** As readProcesses, a moment later; runs that end at the same time share one look. */
export function readProcessesSoon(): Promise<ProcessTable> {
  nextLook ??= new Promise((resolve) => {
    setImmediate(() => {
      nextLook = null;
      resolve(readProcesses());
    });
  });
  return nextLook;
}

/** The kernel counts upwards, and begins anew at the top. */
function newestPid(): number {
  return Number(read('/proc/loadavg').trim().split(' ').at(-1));
}

/** Null for one that is gone, a zombie, or a thread of the kernel. */
function readProcess(pid: number | string): Process | null {
  const fields = statOf(pid);
  const state = fields[0];
  if (fields.length < 20 || state === 'Z' || state === 'X' || (Number(fields[6]) & KERNEL_THREAD) !== 0) return null;
  return {
    pid: Number(pid),
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    stopped: state === 'T',
    startTicks: Number(fields[19]),
  };
}

/** Of a child that is not reaped, a zombie too. */
export function startTicksOf(pid: number): number {
  return Number(statOf(pid)[19] ?? 0);
}

/** Fields of proc(5) from the third on, the state. */
function statOf(pid: number | string): string[] {
  const stat = read(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ', 20);
}

/**
 * By the mark in the environment, by the leader's group and session, and by descent from any of these. What has cleared its
 * environment, made a session of its own and lost its parent is not found.
 *
 * A process that is a new one every moment is never where a table is being read. So those that have come since are looked at
 * until there is none newer: then nothing can have passed the look by. Each of the run's is given to `seize` as soon as it is seen.
 */
export function processesOfRun(run: RunIdentity, table: ProcessTable, seize?: (newcomer: Process) => void): RunProcesses {
  const young = table.processes.filter((one) => one.startTicks >= run.startTicks && one.pid !== process.pid);
  // The kernel gives the leader's number to another process only when its group and its session are empty.
  const recycled = young.some((one) => one.pid === run.leader && one.startTicks !== run.startTicks);
  const found = new Map<number, Process>();
  let unsure = false;
  for (const one of young) {
    const whose = ownerOf(run, one, recycled);
    if (whose === 'run') found.set(one.pid, one);
    else if (whose === 'unsure') unsure = true;
  }
  addDescendants(found, young);
  if (seize === undefined && found.size > 0) return { found: [...found.values()], unsure };
  const newcomers = newcomersOfRun(run, table.newest, recycled, seize);
  for (const one of newcomers.found) found.set(one.pid, one);
  return { found: [...found.values()], unsure: unsure || newcomers.unsure };
}

/** Ends at the first where none is seized: who comes after that one is of no interest then. */
function newcomersOfRun(run: RunIdentity, since: number, recycled: boolean, seize?: (newcomer: Process) => void): RunProcesses {
  const found: Process[] = [];
  const deadlineMs = performance.now() + limits.newcomersMsMax;
  let unsure = false;
  for (let seen = since, newest = newestPid(); newest !== seen; newest = newestPid()) {
    if (newest < seen || performance.now() > deadlineMs) return { found, unsure: true };
    for (let pid = seen + 1; pid <= newest; pid += 1) {
      const one = readProcess(pid);
      const whose = one === null ? 'other' : ownerOnceKnown(run, one, recycled);
      if (whose === 'unsure') unsure = true;
      if (whose !== 'run' || one === null || isThread(pid)) continue;
      found.push(one);
      if (seize === undefined) return { found, unsure };
      seize(one);
    }
    seen = newest;
  }
  return { found, unsure };
}

type Owner = 'run' | 'other' | 'unsure';

/** Unsure of one in the middle of an exec, when it has no environment, and of one whose environment belongs to another user. */
function ownerOf(run: RunIdentity, one: Process, recycled: boolean): Owner {
  const environ = read(`/proc/${one.pid}/environ`);
  const byNumber = !recycled && (one.group === run.leader || one.session === run.leader);
  const marked = environ.startsWith(`${run.mark}\0`) || environ.includes(`\0${run.mark}\0`);
  if (marked || (byNumber && !CLAIM_ENTRY.test(environ))) return 'run';
  return environ === '' ? 'unsure' : 'other';
}

/** An exec takes less than a millisecond; a process that is gone meanwhile is nobody's. */
function ownerOnceKnown(run: RunIdentity, one: Process, recycled: boolean): Owner {
  for (let looks = 1; ; looks += 1) {
    const whose = ownerOf(run, one, recycled);
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

/** `links` are what /proc shows the output's descriptors as. */
export function holdsAny(pid: number, links: ReadonlySet<string>): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => links.has(linkOf(pid, fd)));
  } catch {
    return false;
  }
}

export function linkOf(pid: number | 'self', fd: number | string): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`);
  } catch {
    return '';
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
