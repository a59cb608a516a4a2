/** Looking for runs whose worker died: BullMQ's stalled check, run by the servers for every platform. */
import { Worker } from 'bullmq';
import { limits } from '../job/limits.ts';
import type { Redis } from '../redis/connection.ts';
import { BULL_PREFIX, runQueue } from '../redis/keys.ts';
import { oneLine } from '../service/errors.ts';
import { knownPlatforms } from './platform-sets.ts';
import type { Queues } from './queues.ts';

const PLATFORMS_POLL_MS = 5_000;

/**
 * Checks every platform until closed. A check begins one lock duration after Redis could be reached (again), so that workers
 * that lived through the outage have renewed their locks before anybody is taken for dead.
 */
export function watchAbandoned(queues: Queues, connection: Redis): { close(): Promise<void> } {
  const checkers = new Map<string, Worker>();
  let reachableSinceMs = performance.now();
  connection.on('ready', () => {
    reachableSinceMs = performance.now();
  });
  connection.on('close', () => {
    reachableSinceMs = Number.POSITIVE_INFINITY;
    for (const checker of checkers.values()) checker.close(true).catch(() => undefined);
    checkers.clear();
  });
  const refresh = async (): Promise<void> => {
    if (performance.now() - reachableSinceMs < limits.lockDurationMs) return;
    for (const platform of await knownPlatforms(queues)) {
      if (!checkers.has(platform)) checkers.set(platform, startChecker(queues, connection, platform));
    }
  };
  const timer = setInterval(
    () => refresh().catch((cause) => queues.logger.debug({ error: oneLine(cause) }, 'platforms')),
    PLATFORMS_POLL_MS / 5,
  );
  return {
    close: async () => {
      clearInterval(timer);
      await Promise.allSettled([...checkers.values()].map((checker) => checker.close(true)));
    },
  };
}

function startChecker(queues: Queues, connection: Redis, platform: string): Worker {
  const checker = new Worker(runQueue(platform), null, {
    connection,
    prefix: BULL_PREFIX,
    autorun: false,
    lockDuration: limits.lockDurationMs,
    stalledInterval: limits.stalledIntervalMs,
    // The bound on worker deaths is builder's own, checked at the claim; BullMQ's never decides.
    maxStalledCount: Number.MAX_SAFE_INTEGER,
  });
  checker.on('error', (cause) => queues.logger.debug({ platform, error: oneLine(cause) }, 'abandoned runs'));
  checker.on('stalled', (run) => queues.logger.warn({ run, platform }, 'its worker is silent; the run is queued again'));
  checker.startStalledCheckTimer().catch((cause) => queues.logger.debug({ platform, error: oneLine(cause) }, 'abandoned runs'));
  return checker;
}
