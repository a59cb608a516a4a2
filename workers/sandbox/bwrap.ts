/** The sandbox `bwrap`: namespaces for mounts, PIDs, IPC and the host's name; the host read-only, other runs out of sight. */
import { existsSync, realpathSync, statSync } from 'node:fs';
import { startUnderInit } from './init-run.ts';
import type { Launch, Sandbox } from './sandbox.ts';
import type { Slots } from './slots.ts';

/**
 * What root keeps inside: enough to install, to change owners and to drop to another user; not to mount, to make devices, to
 * trace or to touch the host's clock, network and modules. Without root bwrap gives none.
 */
const CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETFCAP', 'NET_BIND_SERVICE', 'SYS_CHROOT'];

const realpath = realpathSync.native;

const NAMESPACES = ['--unshare-pid', '--unshare-ipc', '--unshare-uts'];

/** Folders for everybody's temporary files: each run sees its own there. */
const SHARED_TMP = ['/tmp', '/var/tmp'];

export function bwrapSandbox(program: string, slots: Slots): Sandbox {
  return {
    name: 'bwrap',
    start: (launch) => startUnderInit(slots, { command: [program, ...bwrapArgs(launch)], isSealed: true }, launch),
  };
}

/** Its arguments up to the program that is to be PID 1. Synchronous: each path costs less than its way through the thread pool. */
function bwrapArgs(launch: Launch): string[] {
  const own = [launch.folder, launch.tmp, launch.script].map((path) => realpath(path)) as [string, string, string];
  const [folder, tmp, script] = own;
  const hidden = existing(launch.hide);
  const args = ['--die-with-parent', '--as-pid-1', ...NAMESPACES];
  if (launch.network === 'none') args.push('--unshare-net');
  args.push('--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc');
  // Where the run's own folders lie below, a bind would fill its TMPDIR with the folders on the way to them.
  for (const shared of SHARED_TMP.filter((path) => existsSync(path))) {
    args.push(...(own.some((path) => isBelow(path, shared)) ? ['--tmpfs', shared] : ['--bind', tmp, shared]));
  }
  const files = new Set(hidden.filter((path) => !statSync(path).isDirectory()));
  for (const path of hidden) args.push(...(files.has(path) ? ['--ro-bind', '/dev/null', path] : ['--tmpfs', path]));
  args.push('--bind', folder, folder, '--bind', tmp, tmp);
  if (!isBelow(script, folder)) args.push('--ro-bind', script, script);
  for (const path of hidden) if (!files.has(path)) args.push('--remount-ro', path);
  if (process.getuid?.() === 0) args.push('--cap-drop', 'ALL', ...CAPABILITIES.flatMap((name) => ['--cap-add', `CAP_${name}`]));
  return [...args, '--'];
}

/** The root folder and those that are gone cannot be hidden; what lies below another is hidden with it. */
function existing(paths: readonly string[]): string[] {
  const found = paths.map(placeOf);
  const distinct = [...new Set(found)].filter((path) => path !== '/' && !SHARED_TMP.includes(path));
  // What lies in a shared folder for temporary files is out of sight with it; a file there would be made anew in the run's own.
  const shown = distinct.filter((path) => !SHARED_TMP.some((shared) => isBelow(path, shared) && !statSync(path).isDirectory()));
  return shown.filter((path) => !distinct.some((other) => other !== path && isBelow(path, other)));
}

/** `/` for what is not there, or is no place of the file system: a pipe that a shell has handed over, say, which no script has. */
function placeOf(path: string): string {
  try {
    const place = realpath(path);
    return ['/dev', '/proc'].some((own) => isBelow(place, own)) ? '/' : place;
  } catch {
    return '/';
  }
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}
