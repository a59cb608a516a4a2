/** BullMQ's queues of one Redis: a queue per platform, and the tick queue. */

import type { LogDigest } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import { nextTick } from '../job/schedule.ts';
import { connect, type Redis } from '../redis/connection.ts';
import { BULL_PREFIX, runQueue, TICK_QUEUE } from '../redis/keys.ts';
import { oneLine } from '../service/errors.ts';
import type { Logger } from '../service/logger.ts';
import { Queue } from './bullmq.ts';
import { scheduleOfPattern } from './pattern.ts';

/** Closes the log of an attempt whose worker is gone; given by whoever holds the store. */
export type SealLog = (log: { run: string; attempt: number; claim: string }) => Promise<LogDigest>;

export interface Queues {
  /** Fails a command within seconds while Redis is away. */
  redis: Redis;
  redisUrl: string;
  logger: Logger;
  sealLog: SealLog;
  byName: Map<string, Queue>;
  close(): Promise<void>;
}

/** builder's own clock for BullMQ's job schedulers: the pattern holds the schedule, the next tick is computed by src/job. */
export const clockSettings = {
  repeatStrategy: (afterMs: number, options: { pattern?: string }): number | undefined =>
    nextTick(scheduleOfPattern(options.pattern ?? ''), afterMs) ?? undefined,
};

export function openQueues(options: { redisUrl: string; logger: Logger; sealLog: SealLog }): Queues {
  const redis = connect(options.redisUrl, 'command');
  const byName = new Map<string, Queue>();
  const close = async (): Promise<void> => {
    await Promise.allSettled([...byName.values()].map((queue) => queue.close()));
    redis.disconnect();
  };
  return { redis, byName, close, ...options };
}

export function platformQueue(queues: Queues, platform: string): Queue {
  return queueNamed(queues, runQueue(platform));
}

export function tickQueue(queues: Queues): Queue {
  return queueNamed(queues, TICK_QUEUE);
}

export function queueNamed(queues: Queues, name: string): Queue {
  const known = queues.byName.get(name);
  if (known !== undefined) return known;
  const queue = new Queue(name, {
    connection: queues.redis,
    prefix: BULL_PREFIX,
    skipMetasUpdate: false,
    settings: clockSettings,
    defaultJobOptions: { removeOnComplete: { count: limits.boardFinishedJobsMax }, removeOnFail: { count: limits.boardFinishedJobsMax } },
  });
  queue.on('error', (cause) => queues.logger.debug({ queue: name, error: oneLine(cause) }, 'queue'));
  queues.byName.set(name, queue);
  return queue;
}
