/** BullMQ alone, with a Redis of its own: what builder is measured beside. */
import { Queue } from 'bullmq';
import type { Redis } from '../../src/redis/connection.ts';
import { connect } from '../../src/redis/connection.ts';
import { startRedis } from '../../test/support/redis.ts';

export interface BullQueue {
  queue: Queue;
  redis: Redis;
  close(): Promise<void>;
}

export async function openBullQueue(): Promise<BullQueue> {
  const server = await startRedis();
  const queue = new Queue('bench', { connection: { path: server.url.slice('unix:'.length) } });
  const redis = connect(server.url, 'command');
  const close = async (): Promise<void> => {
    await queue.close();
    redis.disconnect();
    await server.stop();
  };
  return { queue, redis, close };
}

export function bullJobs(count: number, script: string): { name: string; data: object }[] {
  return Array.from({ length: count }, () => ({ name: 'run', data: { script } }));
}
