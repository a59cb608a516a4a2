/** The sandbox `bwrap`: namespaces for mounts, PIDs, IPC and the host's name; the host read-only, other runs out of sight. */
import { realpathSync } from 'node:fs';
import { limits } from '../../src/job/limits.ts';
import { INIT_WORDS, startUnderInit } from './init-run.ts';
import { type Mount, viewOf } from './run-view.ts';
import type { Launch, Sandbox } from './sandbox.ts';
import { createSlots, type Slots } from './slots.ts';
import { systemCalls } from './system-calls.ts';

/**
 * What root keeps inside, with the numbers of capabilities(7): enough to install, to change owners and to drop to another user; not to mount, to
 * make devices, to trace or to touch the host's clock, network and modules. Without root a script has none.
 */
const KEPT = {
  CHOWN: 0,
  DAC_OVERRIDE: 1,
  FOWNER: 3,
  FSETID: 4,
  KILL: 5,
  SETGID: 6,
  SETUID: 7,
  NET_BIND_SERVICE: 10,
  SYS_CHROOT: 18,
  SETFCAP: 31,
};

/** What makes a run's namespaces in a room, and gives itself up before the script. */
const MAKING = ['SYS_ADMIN', 'NET_ADMIN', 'SETPCAP'];

/** bwrap makes the namespaces of each run. */
export function bwrapSandbox(program: string, slots: Slots): Sandbox {
  return {
    name: 'bwrap',
    start: (launch) => {
      const words = [program, ...bwrapArguments(launch), ...INIT_WORDS];
      return startUnderInit(slots, { sandbox: 'bwrap', words, isSealed: true }, launch);
    },
  };
}

/**
 * bwrap makes a room for each slot, where the host is read-only, and the slot makes the namespaces of each run in it: that takes a third of
 * the time. `runs` is where the folders of all runs lie. Null on a machine for which builder does not know how.
 */
export function bwrapRooms(program: string, runs: string): Sandbox | null {
  const calls = systemCalls();
  if (calls.making === null) return null;
  const place = realpathSync.native(runs);
  const isRoot = process.getuid?.() === 0;
  const kept = isRoot ? Object.values(KEPT).reduce((mask, number) => mask + 2 ** number, 0) : 0;
  const { clone, unshare, mount, capset, setsid, exitGroup, mkdirat } = calls.making;
  const slots = createSlots({
    command: [program, ...roomArguments(place, isRoot)],
    words: [...[clone, unshare, mount, capset, setsid, exitGroup, mkdirat, kept].map(String), place],
  });
  const each = bwrapSandbox(program, createSlots());
  /** Of `performance.now()`. */
  let restsUntilMs = 0;
  return {
    name: 'bwrap',
    start: (launch) => {
      // A control group is entered through a descriptor of the worker's, which nobody in a room can open without root.
      if (launch.enter.length > 0 || performance.now() < restsUntilMs) return each.start(launch);
      const view = viewOf({ ...launch, hide: [...launch.hide, place] });
      const words = [launch.network, ...view.flatMap(wordsOf)];
      // A machine that mounts all the time leaves no room for long.
      return startUnderInit(slots, { sandbox: 'bwrap', words, isSealed: true }, launch, () => {
        restsUntilMs = performance.now() + limits.roomsRestMs;
        return each.start(launch);
      });
    },
  };
}

/** In a room the folders of the runs can be written; each run covers them but for its own. */
function roomArguments(runs: string, isRoot: boolean): string[] {
  const capabilities = [...(isRoot ? Object.keys(KEPT) : []), ...MAKING];
  return [
    '--die-with-parent',
    ...['--ro-bind', '/', '/', '--dev', '/dev', '--remount-ro', '/dev'],
    // The kernel lets nobody mount a /proc that shows more than the one that is there, and read-only is less.
    ...['--bind', '/proc', '/proc', '--bind', runs, runs],
    ...capabilityArguments(capabilities),
    '--',
  ];
}

/** Of the command that makes the namespaces of one run, up to the program that is to be PID 1. */
export function bwrapArguments(launch: Launch): string[] {
  const args = ['--die-with-parent', '--as-pid-1', '--unshare-pid', '--unshare-ipc', '--unshare-uts'];
  if (launch.network === 'none') args.push('--unshare-net');
  args.push('--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc');
  for (const mount of viewOf(launch)) {
    if (mount.kind === 'bind') args.push('--bind', mount.from, mount.at);
    else if (mount.kind === 'mask') args.push('--ro-bind', '/dev/null', mount.at);
    else args.push(mount.kind === 'tmpfs' ? '--tmpfs' : '--remount-ro', mount.at);
  }
  if (process.getuid?.() === 0) {
    // bwrap itself leaves them to root: it asks whether the folder can be written, not what is in it.
    for (const path of ['/proc/sys', '/proc/fs']) args.push('--ro-bind-try', path, path);
    args.push(...capabilityArguments(Object.keys(KEPT)));
  }
  return [...args, '--'];
}

function capabilityArguments(names: string[]): string[] {
  return ['--cap-drop', 'ALL', ...names.flatMap((name) => ['--cap-add', `CAP_${name}`])];
}

function wordsOf(mount: Mount): string[] {
  return mount.kind === 'bind' ? [mount.kind, mount.at, mount.from] : [mount.kind, mount.at];
}
