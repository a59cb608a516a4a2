/** Storing what dead workers held, in the background: log, files and manifest of each attempt, which shows as superseded. */
import { stat } from 'node:fs/promises';
import type { Store } from '../src/artifacts/store.ts';
import { limits } from '../src/job/limits.ts';
import type { Redis } from '../src/redis/connection.ts';
import { oneLine } from '../src/service/errors.ts';
import type { Logger } from '../src/service/logger.ts';
import type { LeftAttempt, LeftFolder } from './left-folders.ts';
import { isAway } from './patience.ts';
import { removeTree } from './remove-tree.ts';
import { pathsIn } from './run-paths.ts';
import { salvageAttempt } from './salvage-attempt.ts';

export interface SalvageOptions {
  left: LeftFolder[];
  /** Fails at once while Redis is away. */
  redis: Redis;
  store: Store;
  logger: Logger;
  /** Ends it; what is not stored by then is left for the next start. */
  until: AbortSignal;
  /** How long Redis or the store may be away for one attempt (default limits.storeOutageMsMax). */
  waitMs?: number;
}

/**
 * One attempt after the other. Redis or the store away is waited out, bounded; then this and all that follow are left
 * for the next start. Any other fault costs the attempt: its folder goes.
 */
export function startSalvage(o: SalvageOptions): { close(): Promise<void> } {
  const done = salvageAll(o).catch((cause) =>
    o.logger.error({ error: oneLine(cause) }, 'what a dead worker left could not be gone through'),
  );
  return { close: () => done };
}

async function salvageAll(o: SalvageOptions): Promise<void> {
  for (const folder of o.left) {
    if (folder.fault !== null) {
      o.logger.error(
        { folder: folder.path, error: folder.fault },
        'a run of a dead worker does not end; its folder is left for the next start',
      );
      continue;
    }
    let held = false;
    for (const attempt of folder.attempts) {
      const settled = await settle(o, attempt);
      if (settled === 'away') return;
      if (settled === 'held') held = true;
    }
    // What else lies among the runs is no attempt.
    if (!held) await remove(o, folder.path);
  }
}

/** `held`: it is left for the next start; `away`: so is all that follows. */
async function settle(o: SalvageOptions, left: LeftAttempt): Promise<'settled' | 'held' | 'away'> {
  const about = { run: left.run, attempt: left.attempt };
  try {
    o.until.throwIfAborted();
    const stored = await salvageAttempt({ ...o, outageMsMax: o.waitMs ?? limits.storeOutageMsMax }, left);
    if (stored === 'held') {
      o.logger.warn(
        { ...about, folder: left.path },
        'a living worker executes this attempt; the folder of it that lies here is left alone',
      );
      return 'held';
    }
    o.logger.info({ ...about, ...stored }, 'what a dead worker left of an attempt is seen to');
  } catch (cause) {
    // What an abort ended may tell of a file by its name.
    const error = isAway(cause) ? 'Redis or the store was away for too long, or no file could be opened' : oneLine(cause);
    if (o.until.aborted || (isAway(cause) && !(await isOld(left)))) {
      o.logger.warn(about, 'what a dead worker left of an attempt waits for the next start');
      return 'away';
    }
    o.logger.error({ ...about, error }, 'what a dead worker left of an attempt could not be stored; it is removed');
  }
  await remove(o, left.path);
  return 'settled';
}

/** What cannot be removed is tried again at the next start. */
function remove(o: SalvageOptions, folder: string): Promise<void> {
  return removeTree(folder).catch((cause) => o.logger.warn({ folder, error: oneLine(cause) }, 'not all of a dead worker could be removed'));
}

/** By this machine's clock: its note is written before the script runs, and never again. */
async function isOld({ path }: LeftAttempt): Promise<boolean> {
  const { mtimeMs } = await stat(pathsIn(path).notePath).catch(() => stat(path));
  return Date.now() - mtimeMs > limits.leftAttemptMsMax;
}
