/** Trying again what fails because Redis or the store is away, or because no more files can be opened. */
import { limits } from '../src/job/limits.ts';
import { isRedisAway } from '../src/redis/connection.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { pause } from '../src/service/lifecycle.ts';
import type { Logger } from '../src/service/logger.ts';
import type { Mask } from './masker.ts';

export interface Patience {
  run: string;
  logger: Logger;
  /** Keeps the run's secrets out of what is logged. */
  mask?: Mask;
  /** Ends the patience: what fails then is thrown. */
  until: AbortSignal;
  /** So is what fails for longer than this, from the first failure on: what goes on well may take as long as it takes. */
  outageMsMax?: number;
}

/** Redis away, read-only or full, the store away or full, no more files to be opened; every other fault is thrown at once. */
export async function patiently<T>(o: Patience, work: () => Promise<T>): Promise<T> {
  let failingSinceMs: number | null = null;
  let outages = 0;
  let fullSinceMs: number | null = null;
  for (let told = ''; ; ) {
    const begunAtMs = performance.now();
    try {
      return await work();
    } catch (cause) {
      const isFull = cause instanceof BuilderError && cause.code === 'store-full';
      const nowMs = performance.now();
      if (failingSinceMs === null || (nowMs - begunAtMs > limits.storeTryMsMax && outages < limits.storeOutagesMax)) {
        failingSinceMs = nowMs;
        outages += 1;
      }
      // Room does not come back by itself as a connection does; and what waits may hold the room.
      fullSinceMs = isFull ? (fullSinceMs ?? nowMs) : null;
      const isFullForGood = fullSinceMs !== null && nowMs - fullSinceMs > limits.storeFullMsMax;
      const isAwayForGood = o.outageMsMax !== undefined && nowMs - failingSinceMs > o.outageMsMax;
      if (!(isFull || isAway(cause)) || isFullForGood || isAwayForGood || o.until.aborted) throw cause;
      const error = o.mask?.text(oneLine(cause)) ?? oneLine(cause);
      if (error !== told) o.logger.warn({ run: o.run, error }, 'Redis, the store or this machine refused; trying again');
      told = error;
      await pause(limits.faultPauseMs, o.until);
    }
  }
}

/** Redis or the store cannot be reached, or cannot serve; or no file can be opened. */
export function isAway(cause: unknown): boolean {
  return cause instanceof BuilderError ? cause.code === 'store-unavailable' : isRedisAway(cause);
}
