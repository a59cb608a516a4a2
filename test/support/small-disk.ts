/** A small file system of its own, for a disk that is full. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { tempFolder } from './temp.ts';

export interface SmallDisk {
  path: string;
  remove(): void;
}

/** Null where none can be mounted, which a line tells. `files`: how many it can hold, folders too. */
export function smallDisk(mebibytes: number, files?: number): SmallDisk | null {
  const folder = tempFolder();
  const path = `${folder.path}/disk`;
  mkdirSync(path);
  const mounted = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', `size=${mebibytes}m${files === undefined ? '' : `,nr_inodes=${files}`}`, 'builder-test', path],
    { encoding: 'utf8' },
  );
  if (mounted.status !== 0) {
    process.stderr.write(`skipped: a full disk: no tmpfs can be mounted (${(mounted.stderr || String(mounted.error)).trim()})\n`);
    folder.remove();
    return null;
  }
  return {
    path,
    remove: () => {
      spawnSync('umount', ['-l', path]);
      folder.remove();
    },
  };
}
