/** What every server does beside answering: ticks, half-accepted runs, cancellations, retries, abandoned runs, aging. */
import { limits } from '../job/limits.ts';
import { connect } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import { runScript } from '../redis/script.ts';
import { oneLine } from '../service/errors.ts';
import { requeueAbandoned } from './abandoned.ts';
import { ageWaiting } from './aging.ts';
import { requeue, settleCancel } from './cancel.ts';
import { eachRun } from './each-run.ts';
import type { StoreScript } from './execute.ts';
import type { Queues } from './queues.ts';
import { olderScript } from './record-scripts.ts';
import { readRecord } from './records.ts';
import { createRedisClock } from './redis-clock.ts';
import { createIdentityCheck } from './redis-identity.ts';
import { startRetries } from './retries.ts';
import { requeueStranded } from './stranded.ts';
import { completeTicks, consumeTicks } from './ticks.ts';

const SWEEP_PAGE = 500;
/** Every open run is looked at: a hundred milliseconds of Redis's time for a hundred thousand. */
const STRANDED_SWEEP_MS = 10_000;
const SLOW_SWEEP_MS = 30_000;

/** Any number of servers may do them at once; every step is idempotent. */
export function startServerDuties(o: { queues: Queues; storeScript: StoreScript }): { close(): Promise<void> } {
  const { queues } = o;
  const connection = connect(queues.redisUrl, 'patient');
  const ticks = consumeTicks(queues, o.storeScript, connection);
  const lookAtClock = createRedisClock(queues);
  const checkIdentity = createIdentityCheck(queues);
  const missingTicks = new Map<string, string>();
  const sweeps = [
    every(limits.sweepIntervalMs, 'identity', queues, checkIdentity),
    every(limits.stalledIntervalMs, 'abandoned runs', queues, () => requeueAbandoned(queues)),
    every(limits.sweepIntervalMs, 'clock', queues, lookAtClock),
    every(limits.sweepIntervalMs, 'half-accepted runs', queues, () => completeAccepting(queues)),
    every(limits.sweepIntervalMs, 'cancellations', queues, () => settleCancelling(queues)),
    every(limits.sweepIntervalMs, 'retries', queues, () => startRetries(queues)),
    every(STRANDED_SWEEP_MS, 'stranded runs', queues, () => requeueStranded(queues)),
    every(SLOW_SWEEP_MS, 'slow sweep', queues, async () => {
      await completeTicks(queues, missingTicks);
      await ageWaiting(queues);
    }),
  ];
  return {
    close: async () => {
      for (const sweep of sweeps) await sweep.close();
      await ticks.close();
      connection.disconnect();
    },
  };
}

/** Queues the runs whose record was written and whose BullMQ job a crash left out. */
async function completeAccepting(queues: Queues): Promise<void> {
  const ids = (await runScript(queues.redis, olderScript, [keys.accepting], [limits.acceptingGraceMs, SWEEP_PAGE])) as string[];
  await eachRun(queues, ids, async (id) => {
    const record = await readRecord(queues.redis, id);
    if (record === null || record.result !== null) await queues.redis.zrem(keys.accepting, id);
    else await requeue(queues, record);
  });
}

async function settleCancelling(queues: Queues): Promise<void> {
  const ids = (await runScript(queues.redis, olderScript, [keys.cancelling], [0, SWEEP_PAGE])) as string[];
  await eachRun(queues, ids, (id) => settleCancel(queues, id));
}

/** Runs a duty at once and then again and again, never twice at a time; a fault is for the log, the next round tries again. */
function every(intervalMs: number, duty: string, queues: Queues, work: () => Promise<void>): { close(): Promise<void> } {
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  const round = async (): Promise<void> => {
    await work().catch((cause) => queues.logger.debug({ duty, error: oneLine(cause) }, 'a duty failed; it is tried again'));
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
