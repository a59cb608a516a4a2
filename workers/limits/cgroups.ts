/** Where this machine lets the worker make control groups, looked at once at its start: cgroup v2 where delegated, else v1. */
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { codeOf } from '../../src/artifacts/durable-files.ts';

export const CONTROLLERS = ['memory', 'cpu', 'pids'] as const;
export type Controller = (typeof CONTROLLERS)[number];

/** Groups of runs are made in `base`. */
export interface Hierarchy {
  version: 1 | 2;
  base: string;
}

/** A text says why there is none. */
export type Cgroups = Record<Controller, Hierarchy | string>;

/** Tells that a controller is at work in a group. */
const PROOF: Record<1 | 2, Record<Controller, string>> = {
  1: { memory: 'memory.limit_in_bytes', cpu: 'cpu.cfs_quota_us', pids: 'pids.max' },
  2: { memory: 'memory.max', cpu: 'cpu.max', pids: 'pids.max' },
};

/** The worker's own leaf: where cgroup v2 has controllers at work in the groups below, no process may be in the group itself. */
const LEAF = 'builder-worker';

/** `proc` is the folder of /proc that tells of this process. Moves the worker where cgroup v2 asks for it. */
export function findCgroups(proc = '/proc/self'): Cgroups {
  const mounts = readMounts(proc);
  const paths = readPaths(proc);
  const unified = findUnified(mounts, paths);
  const found = (controller: Controller): Hierarchy | string => {
    const candidates = [unified, legacyBase(controller, mounts, paths)];
    const whyNot: string[] = [];
    for (const one of candidates) {
      const fault = typeof one === 'string' ? one : tryOut(one, controller);
      if (fault === null) return one as Hierarchy;
      if (fault !== '') whyNot.push(fault);
    }
    return whyNot.at(-1) ?? 'no cgroup is mounted';
  };
  return { memory: found('memory'), cpu: found('cpu'), pids: found('pids') };
}

interface Mount {
  /** Of the hierarchy, what is seen at the point. */
  root: string;
  point: string;
  type: string;
  options: string[];
}

/** As proc_pid_mountinfo(5) has it; its octal escapes are undone. */
function readMounts(proc: string): Mount[] {
  const lines = readFileSync(join(proc, 'mountinfo'), 'utf8').trim().split('\n');
  return lines.flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , root = '/', point = '/'] = before.split(' ').map(unescaped);
    const [type = '', , options = ''] = after.split(' ');
    return type === 'cgroup' || type === 'cgroup2' ? [{ root, point, type, options: options.split(',') }] : [];
  });
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Controller (empty for v2) to this process's path, as cgroups(7) has it. */
function readPaths(proc: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of readFileSync(join(proc, 'cgroup'), 'utf8').trim().split('\n')) {
    const [, controllers = '', path = '/'] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    for (const controller of controllers.split(',')) paths.set(controller, path);
  }
  return paths;
}

/** Where the process's own group is seen; a mount that does not show it shows the group that a container has for its root. */
function ownFolder(mount: Mount, path: string): string {
  const below = relative(mount.root, path);
  return below.startsWith('..') ? mount.point : join(mount.point, below);
}

function legacyBase(controller: Controller, mounts: Mount[], paths: Map<string, string>): Hierarchy | string {
  const mount = mounts.find(({ type, options }) => type === 'cgroup' && options.includes(controller));
  const path = paths.get(controller);
  // Empty: nothing that v2 has not said already.
  if (mount === undefined || path === undefined) return '';
  return { version: 1, base: ownFolder(mount, path) };
}

function findUnified(mounts: Mount[], paths: Map<string, string>): Hierarchy | string {
  const mount = mounts.find(({ type }) => type === 'cgroup2');
  const path = paths.get('');
  if (mount === undefined || path === undefined) return '';
  const own = ownFolder(mount, path);
  const offered = CONTROLLERS.filter((one) => wordsOf(own, 'cgroup.controllers').includes(one));
  if (offered.length === 0) return 'cgroup v2 gives it no controllers';
  if (hasEnabled(own, offered)) return { version: 2, base: own };
  const parent = dirname(own);
  // A group of the same user beside its own, as below user@.service; root's neighbours belong to systemd.
  const beside = path !== '/' && process.getuid?.() !== 0 && isOwnedByUs(parent) && hasEnabled(parent, offered);
  if (beside) return { version: 2, base: parent };
  return enable(own, offered) ?? { version: 2, base: own };
}

/** Null when done. */
function enable(own: string, offered: Controller[]): string | null {
  const leaf = join(own, LEAF);
  try {
    accessSync(join(own, 'cgroup.subtree_control'), constants.W_OK);
    mkdirSync(leaf, { recursive: true });
    writeFileSync(join(leaf, 'cgroup.procs'), '0');
  } catch (cause) {
    return `no cgroup can be made: ${codeOf(cause)}`;
  }
  try {
    writeFileSync(join(own, 'cgroup.subtree_control'), offered.map((one) => `+${one}`).join(' '));
    return null;
  } catch (cause) {
    writeFileSync(join(own, 'cgroup.procs'), '0');
    rmdirSync(leaf);
    const busy = codeOf(cause) === 'EBUSY';
    return busy ? 'the worker shares its cgroup with other processes' : `no cgroup can be made: ${codeOf(cause)}`;
  }
}

function hasEnabled(folder: string, wanted: Controller[]): boolean {
  const enabled = wordsOf(folder, 'cgroup.subtree_control');
  return wanted.every((one) => enabled.includes(one));
}

function wordsOf(folder: string, file: string): string[] {
  const path = join(folder, file);
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split(' ') : [];
}

function isOwnedByUs(folder: string): boolean {
  return statSync(folder).uid === process.getuid?.();
}

/** Null when a group can be made there and has the controller. */
function tryOut({ base, version }: Hierarchy, controller: Controller): string | null {
  const folder = join(base, `builder-probe-${process.pid}`);
  try {
    mkdirSync(folder);
  } catch (cause) {
    return `no cgroup can be made: ${codeOf(cause)}`;
  }
  try {
    accessSync(join(folder, PROOF[version][controller]), constants.W_OK);
    accessSync(join(folder, 'cgroup.procs'), constants.W_OK);
    return null;
  } catch {
    return `cgroup v${version} has no ${controller} controller here`;
  } finally {
    rmdirSync(folder);
  }
}
