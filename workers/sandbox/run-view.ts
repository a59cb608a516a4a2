/** What a run sees of the machine's files under `bwrap`, whoever mounts it: the host read-only, its own folders, nothing of other runs. */
import { existsSync, realpathSync, statSync } from 'node:fs';
import type { Launch } from './sandbox.ts';

/**
 * In the order in which they are mounted. `bind`: what lies at `from`, which may be covered by then; `tmpfs`: an empty folder; `mask`: a file that
 * cannot be read; `read-only`: a `tmpfs` from now on.
 */
export type Mount = { kind: 'bind'; from: string; at: string } | { kind: 'tmpfs' | 'mask' | 'read-only'; at: string };

const realpath = realpathSync.native;

/** Folders for everybody's temporary files: each run sees its own there. */
function sharedTmp(): string[] {
  return [...new Set(['/tmp', '/var/tmp'].filter((path) => existsSync(path)).map((path) => realpath(path)))];
}

/** What lies over the host, all of it read-only. Synchronous: each path costs less than its way through the thread pool. */
export function viewOf(launch: Pick<Launch, 'folder' | 'tmp' | 'hide'>): Mount[] {
  const [folder, tmp] = [realpath(launch.folder), realpath(launch.tmp)];
  const shared = sharedTmp();
  const hidden = existing(launch.hide, shared);
  const files = new Set(hidden.filter((path) => !statSync(path).isDirectory()));
  const mounts: Mount[] = [];
  // Where the run's own folders lie below, a bind would fill its TMPDIR with the folders on the way to them.
  for (const at of shared) {
    mounts.push(isBelow(folder, at) || isBelow(tmp, at) ? { kind: 'tmpfs', at } : { kind: 'bind', from: tmp, at });
  }
  for (const at of hidden) mounts.push({ kind: files.has(at) ? 'mask' : 'tmpfs', at });
  for (const at of [folder, tmp]) mounts.push({ kind: 'bind', from: at, at });
  for (const at of hidden) if (!files.has(at)) mounts.push({ kind: 'read-only', at });
  return mounts;
}

/** The root folder and those that are gone cannot be hidden; what lies below another is hidden with it. */
function existing(paths: readonly string[], sharedTmp: readonly string[]): string[] {
  const found = paths.map(placeOf);
  const distinct = [...new Set(found)].filter((path) => path !== '/' && !sharedTmp.includes(path));
  // What lies in a shared folder for temporary files is out of sight with it; a file there would be made anew in the run's own.
  const shown = distinct.filter((path) => !sharedTmp.some((shared) => isBelow(path, shared) && !statSync(path).isDirectory()));
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
