/** Trying again what fails because Redis or the store is away. */
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
}

/** Redis away, read-only or full, the store away or full; every other fault is thrown at once. */
export async function patiently<T>(o: Patience, work: () => Promise<T>): Promise<T> {
  const startedMs = performance.now();
  for (let told = ''; ; ) {
    try {
      return await work();
    } catch (cause) {
      const temporary = cause instanceof BuilderError ? ['store-unavailable', 'store-full'].includes(cause.code) : isRedisAway(cause);
      // Room does not come back by itself as a connection does; and what waits may hold the room.
      const isFull = cause instanceof BuilderError && cause.code === 'store-full' && performance.now() - startedMs > limits.storeFullMsMax;
      if (!temporary || isFull || o.until.aborted) throw cause;
      const error = o.mask?.text(oneLine(cause)) ?? oneLine(cause);
      if (error !== told) o.logger.warn({ run: o.run, error }, 'Redis or the store refused; trying again');
      told = error;
      await pause(limits.faultPauseMs, o.until);
    }
  }
}
