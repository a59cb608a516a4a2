/** What every server does beside answering: ticks, half-accepted runs, cancellations, retries, abandoned runs, aging. */
import { randomUUID } from 'node:crypto';
import { limits } from '../job/limits.ts';
import { connect } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import { oneLine } from '../service/errors.ts';
import { requeueAbandoned } from './abandoned.ts';
import { ageWaiting } from './aging.ts';
import { requeue, settleCancel } from './cancel.ts';
import { eachRun } from './each-run.ts';
import type { StoreScript } from './execute.ts';
import { look } from './look.ts';
import type { Queues } from './queues.ts';
import { readRecord } from './records.ts';
import { createRedisClock } from './redis-clock.ts';
import { createIdentityCheck } from './redis-identity.ts';
import { startRetries } from './retries.ts';
import { requeueStranded } from './stranded.ts';
import { completeTicks, consumeTicks } from './ticks.ts';

/** Every open run is looked at: a hundred milliseconds of Redis's time for a hundred thousand. */
const STRANDED_SWEEP_MS = 10_000;
const SLOW_SWEEP_MS = 30_000;

/** Any number of servers may do them at once; every step is idempotent. */
export function startServerDuties(o: { queues: Queues; storeScript: StoreScript }): { close(): Promise<void> } {
  const { queues } = o;
  const connection = connect(queues.redisUrl, 'patient');
  const ticks = consumeTicks(queues, o.storeScript, connection);
  const found = [
    oneAtATime('clock', queues, createRedisClock(queues)),
    oneAtATime('half-accepted runs', queues, (ids: string[]) => completeAccepting(queues, ids)),
    oneAtATime('cancellations', queues, (ids: string[]) => settleCancelling(queues, ids)),
    oneAtATime('retries', queues, (ids: string[]) => startRetries(queues, ids)),
  ] as const;
  const [mendClock, complete, settle, start] = found;
  const checkIdentity = createIdentityCheck(queues);
  // None waits for another: a store that is away may hold a cancellation up.
  const lookOnce = async (): Promise<void> => {
    const askedAtMs = performance.now();
    const seen = await look(queues, randomUUID());
    checkIdentity(seen);
    mendClock.begin(seen.redisMs, askedAtMs);
    if (seen.accepting.length > 0) complete.begin(seen.accepting);
    if (seen.cancelling.length > 0) settle.begin(seen.cancelling);
    if (seen.retries.length > 0) start.begin(seen.retries);
  };
  const missingTicks = new Map<string, string>();
  const sweeps = [
    every(limits.sweepIntervalMs, 'look', queues, lookOnce),
    every(limits.stalledIntervalMs, 'abandoned runs', queues, () => requeueAbandoned(queues)),
    every(STRANDED_SWEEP_MS, 'stranded runs', queues, () => requeueStranded(queues)),
    every(SLOW_SWEEP_MS, 'slow sweep', queues, async () => {
      await completeTicks(queues, missingTicks);
      await ageWaiting(queues);
    }),
  ];
  return {
    close: async () => {
      for (const sweep of sweeps) await sweep.close();
      for (const one of found) await one.done();
      await ticks.close();
      connection.disconnect();
    },
  };
}

/** Queues the runs whose record was written and whose BullMQ job a crash left out. */
async function completeAccepting(queues: Queues, ids: string[]): Promise<void> {
  await eachRun(queues, ids, async (id) => {
    const record = await readRecord(queues.redis, id);
    if (record === null || record.result !== null) await queues.redis.zrem(keys.accepting, id);
    else await requeue(queues, record);
  });
}

async function settleCancelling(queues: Queues, ids: string[]): Promise<void> {
  await eachRun(queues, ids, (id) => settleCancel(queues, id));
}

/** A duty that is begun by what a look has seen, never twice at a time: what is seen meanwhile the next look sees too. */
function oneAtATime<A extends unknown[]>(duty: string, queues: Queues, work: (...seen: A) => Promise<void>) {
  let current: Promise<void> | null = null;
  return {
    begin: (...seen: A): void => {
      current ??= work(...seen)
        .catch((cause) => queues.logger.debug({ duty, error: oneLine(cause) }, 'a duty failed; it is tried again'))
        .finally(() => {
          current = null;
        });
    },
    done: async (): Promise<void> => {
      await current;
    },
  };
}

/** Runs a duty at once and then again and again, never twice at a time; a fault is for the log (a lasting one at a level that is read), the next round tries again. */
function every(intervalMs: number, duty: string, queues: Queues, work: () => Promise<void>): { close(): Promise<void> } {
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  /** When it last went well, or was told of. */
  let wellAtMs = performance.now();
  const round = async (): Promise<void> => {
    try {
      await work();
      wellAtMs = performance.now();
    } catch (cause) {
      const isLasting = performance.now() - wellAtMs > limits.dutyFaultToldMs;
      if (isLasting) wellAtMs = performance.now();
      queues.logger[isLasting ? 'warn' : 'debug']({ duty, error: oneLine(cause) }, 'a duty failed; it is tried again');
    }
    if (!closed) {
      timer = setTimeout(() => {
        current = round();
      }, intervalMs);
    }
  };
  let current = round();
  return {
    close: async () => {
      closed = true;
      clearTimeout(timer);
      await current;
    },
  };
}
