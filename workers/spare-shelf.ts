/** The folders that are ready for attempts to come, the oldest first. */
import { join } from 'node:path';
import { limits } from '../src/job/limits.ts';
import { isStillAsMade, makeSpareFolder, type SpareFolder } from './spare-folder.ts';

export interface SpareShelf {
  isFull(): boolean;
  add(folder: SpareFolder): void;
  /** Null where a new one must be made. */
  take(): SpareFolder | null;
  make(): SpareFolder;
}

export interface SpareShelfOptions {
  path: string;
  /** Whether one that was just made waits, for it could not serve twice; see isAsGiven. */
  rest: boolean;
  /** Takes away what cannot be used any more. */
  remove(path: string): void;
}

export function createSpareShelf({ path, rest, remove }: SpareShelfOptions): SpareShelf {
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
        remove(oldest.path);
      }
    },
    make: () => {
      count += 1;
      const made = join(path, String(count));
      try {
        return makeSpareFolder(made);
      } catch (cause) {
        remove(made);
        throw cause;
      }
    },
  };
}
