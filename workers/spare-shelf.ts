/** The folders that are ready for attempts to come, the oldest first. */
import { join } from 'node:path';
import { limits } from '../src/job/limits.ts';
import { removeTree } from './remove-tree.ts';
import { isStillAsMade, makeSpareFolder, type SpareFolder } from './spare-folder.ts';

export interface SpareShelf {
  isFull(): boolean;
  add(folder: SpareFolder): void;
  /** Null where a new one must be made. */
  take(): SpareFolder | null;
  make(): SpareFolder;
}

/** `rest`: whether one that was just made waits, for it could not serve twice; see isAsGiven. */
export function createSpareShelf(path: string, rest: boolean): SpareShelf {
  const spares: SpareFolder[] = [];
  let count = 0;
  return {
    isFull: () => spares.length >= limits.spareFoldersMax,
    add: (folder) => void spares.push({ ...folder, restsSinceMs: performance.now() }),
    take: () => {
      const nowMs = performance.now();
      for (;;) {
        const [oldest] = spares;
        if (oldest === undefined || (rest && nowMs - oldest.restsSinceMs < oldest.tickMs)) return null;
        spares.shift();
        if (nowMs - oldest.restsSinceMs < limits.spareFolderMsMax && isStillAsMade(oldest)) return oldest;
        void removeTree(oldest.path).catch(() => undefined);
      }
    },
    make: () => {
      count += 1;
      return makeSpareFolder(join(path, String(count)));
    },
  };
}
