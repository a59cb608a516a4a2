/** Looking for runs whose worker died: BullMQ's stalled check, run by the servers for every platform. */
import { Worker } from 'bullmq';
import { limits } from '../job/limits.ts';
import { connect, isRedisAway, type Redis } from '../redis/connection.ts';
import { BULL_PREFIX, runQueue } from '../redis/keys.ts';
import { oneLine } from '../service/errors.ts';
import { knownPlatforms } from './platform-sets.ts';
import type { Queues } from './queues.ts';

const PLATFORMS_POLL_MS = 5_000;

/**
 * Checks every platform until closed. A check begins one lock duration after Redis could be reached and written (again), so that
 * workers that lived through the outage have renewed their locks before anybody is taken for dead.
 */
export function watchAbandoned(queues: Queues, connection: Redis): { close(): Promise<void> } {
  let reachableSinceMs = performance.now();
  let checking: Checking | null = null;
  const away = (sinceMs: number): void => {
    reachableSinceMs = sinceMs;
    checking?.close();
    checking = null;
  };
  connection.on('ready', () => {
    reachableSinceMs = performance.now();
  });
  connection.on('close', () => away(Number.POSITIVE_INFINITY));
  const refresh = async (): Promise<void> => {
    if (performance.now() - reachableSinceMs < limits.lockDurationMs) return;
    checking ??= startChecking(queues, () => away(performance.now()));
    checking.watch(await knownPlatforms(queues));
  };
  const timer = setInterval(
    () => refresh().catch((cause) => queues.logger.debug({ error: oneLine(cause) }, 'platforms')),
    PLATFORMS_POLL_MS / 5,
  );
  return {
    close: async () => {
      clearInterval(timer);
      away(Number.POSITIVE_INFINITY);
    },
  };
}

interface Checking {
  watch(platforms: string[]): void;
  close(): void;
}

/** On a connection that is never made again: a check that an outage held up must not be the first thing that Redis does after it. */
function startChecking(queues: Queues, away: () => void): Checking {
  const checkers = new Map<string, Worker>();
  const connection = connect(queues.redisUrl, 'single');
  let closed = false;
  const fault = (): void => {
    if (!closed) away();
  };
  connection.on('close', fault);
  return {
    watch: (platforms) => {
      for (const platform of platforms) {
        if (!closed && !checkers.has(platform)) checkers.set(platform, startChecker({ queues, connection, platform, away: fault }));
      }
    },
    close: () => {
      closed = true;
      for (const checker of checkers.values()) checker.close(true).catch(() => undefined);
      connection.disconnect();
    },
  };
}

interface CheckerOptions {
  queues: Queues;
  connection: Redis;
  platform: string;
  /** Redis answers, but cannot serve. */
  away: () => void;
}

function startChecker({ queues, connection, platform, away }: CheckerOptions): Worker {
  const checker = new Worker(runQueue(platform), null, {
    connection,
    prefix: BULL_PREFIX,
    autorun: false,
    lockDuration: limits.lockDurationMs,
    stalledInterval: limits.stalledIntervalMs,
    // The bound on worker deaths is builder's own, checked at the claim; BullMQ's never decides.
    maxStalledCount: Number.MAX_SAFE_INTEGER,
  });
  checker.on('error', (cause) => {
    queues.logger.debug({ platform, error: oneLine(cause) }, 'abandoned runs');
    // Read-only or full, Redis refuses the renewal of locks too: their owners get their time anew.
    if (isRedisAway(cause)) away();
  });
  checker.on('stalled', (run) => queues.logger.warn({ run, platform }, 'its worker is silent; the run is queued again'));
  checker.startStalledCheckTimer().catch((cause) => queues.logger.debug({ platform, error: oneLine(cause) }, 'abandoned runs'));
  return checker;
}
