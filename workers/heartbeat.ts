/** A worker's heartbeat: it is alive, what it runs, and which of that somebody wants cancelled. */
import { limits } from '../src/job/limits.ts';
import { beat, forgetWorker, type Heartbeat } from '../src/queue/workers.ts';
import type { Redis } from '../src/redis/connection.ts';
import { keys } from '../src/redis/keys.ts';
import { oneLine } from '../src/service/errors.ts';
import type { Logger } from '../src/service/logger.ts';
import type { RunningRuns } from './running-runs.ts';

export interface HeartbeatOptions {
  /** Fails at once while Redis is away: a late heartbeat is of no use. */
  redis: Redis;
  /** A connection of its own, for messages. */
  subscriber: Redis;
  worker: Omit<Heartbeat, 'running'>;
  running: RunningRuns;
  logger: Logger;
}

/** Resolves after the first beat, so that a worker that says it is ready is listed. */
export async function startHeartbeat(o: HeartbeatOptions): Promise<{ close(): Promise<void> }> {
  o.subscriber.on('message', (_: string, id: string) => o.running.cancel(id));
  await o.subscriber.subscribe(keys.cancelChannel);
  /** What Redis has been told for sure, and how often in short since. */
  let known: string | null = null;
  let short = 0;
  const once = async (): Promise<void> => {
    const said = { ...o.worker, running: o.running.executing() };
    const text = JSON.stringify(said.running);
    // A message may have been lost: the durable marks are looked at with every beat.
    // Whole from time to time: a Redis that was older for a moment, or whose list somebody has changed, knows better soon.
    const isSame = text === known && short < limits.heartbeatsShortMax;
    // Until it has answered nobody knows what it has been told.
    known = null;
    const cancelled = await beat(o.redis, said, o.running.ids(), isSame);
    known = text;
    short = isSame ? short + 1 : 0;
    for (const id of cancelled) o.running.cancel(id);
  };
  await once();
  const timer = setInterval(() => once().catch((cause) => o.logger.debug({ error: oneLine(cause) }, 'heartbeat')), limits.heartbeatMs);
  return {
    close: async () => {
      clearInterval(timer);
      await forgetWorker(o.redis, o.worker.name).catch(() => undefined);
    },
  };
}
