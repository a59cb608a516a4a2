/** Names of files that are known to be durable, so that what is found again and again is synced once. */
import { limits } from '../job/limits.ts';

/** A file as its name led to it. Whoever puts another one there, or this one anew, changes one of the two. */
export interface FoundFile {
  ino: number;
  ctimeMs: number;
}

export interface DurableNames {
  has(key: string, found: FoundFile): boolean;
  /** Once the folder has been synced that had the name when it was found. */
  add(key: string, found: FoundFile): void;
}

export function createDurableNames(): DurableNames {
  /** The oldest first. */
  const known = new Map<string, FoundFile>();
  return {
    has: (key, { ino, ctimeMs }) => {
      const there = known.get(key);
      return there !== undefined && there.ino === ino && there.ctimeMs === ctimeMs;
    },
    add: (key, { ino, ctimeMs }) => {
      known.delete(key);
      known.set(key, { ino, ctimeMs });
      for (const oldest of known.keys()) {
        if (known.size <= limits.durableNamesMax) return;
        known.delete(oldest);
      }
    },
  };
}
