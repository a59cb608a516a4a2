/** Syncing folders: what is asked for while a folder is being synced is done once, for all who asked. */
import { close, fsync, open } from 'node:fs';
import { promisify } from 'node:util';

/** Resolves once every name that was in the folder at the time of the call is durable. Rejects with the system's error. */
export type SyncFolder = (folder: string) => Promise<void>;

export function createFolderSync(): SyncFolder {
  const running = new Map<string, Promise<void>>();
  /** Begin after those that run, which may have begun before the names were there. */
  const waiting = new Map<string, Promise<void>>();
  const start = (folder: string): Promise<void> => {
    const syncing = syncOnce(folder).finally(() => running.delete(folder));
    running.set(folder, syncing);
    return syncing;
  };
  return (folder) => {
    const current = running.get(folder);
    if (current === undefined) return start(folder);
    const known = waiting.get(folder);
    if (known !== undefined) return known;
    const next = current
      .catch(() => undefined)
      .then(() => {
        waiting.delete(folder);
        return start(folder);
      });
    waiting.set(folder, next);
    return next;
  };
}

// Bare numbers: a FileHandle costs as much again, and there are three of these a run.
const openFolder = promisify(open);
const syncFile = promisify(fsync);
const closeFile = promisify(close);

async function syncOnce(folder: string): Promise<void> {
  const file = await openFolder(folder, 'r');
  try {
    await syncFile(file);
  } finally {
    await closeFile(file);
  }
}
