/** The workers that are alive: each says so every few seconds, under a key that Redis lets expire. */
import type { z } from 'zod';
import { WorkerInfo } from '../job/api.ts';
import { limits } from '../job/limits.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import type { Queues } from './queues.ts';

const Heartbeat = WorkerInfo.omit({ lastSeenAt: true });
export type Heartbeat = z.infer<typeof Heartbeat>;

/** Says that a worker is alive, and returns which of the runs it names are asked to be cancelled. */
export async function beat(redis: Redis, worker: Heartbeat, running: string[]): Promise<string[]> {
  const pipeline = redis
    .pipeline()
    .set(keys.worker(worker.name), JSON.stringify(worker), 'PX', limits.workerTtlMs)
    .zadd(keys.workers, 0, worker.name);
  if (worker.platforms.length > 0) pipeline.sadd(keys.platforms, ...worker.platforms);
  for (const id of running) pipeline.hexists(keys.run(id), 'cancel');
  const answers = (await pipeline.exec()) ?? [];
  const failed = answers.find(([error]) => error !== null)?.[0];
  if (failed) throw failed;
  return running.filter((_, index) => answers.at(index - running.length)?.[1] === 1);
}

export async function forgetWorker(redis: Redis, name: string): Promise<void> {
  await redis.pipeline().del(keys.worker(name)).zrem(keys.workers, name).exec();
}

/** The living workers by name. `lastSeenAt` is reckoned from the key's remaining life: one clock, Redis's. */
export async function listWorkers(queues: Queues): Promise<WorkerInfo[]> {
  const names = await queues.redis.zrange(keys.workers, '0', '-1');
  const pipeline = queues.redis.pipeline();
  for (const name of names) pipeline.get(keys.worker(name)).pttl(keys.worker(name));
  const answers = (await pipeline.exec()) ?? [];
  const workers: WorkerInfo[] = [];
  for (const [index, name] of names.entries()) {
    const text = answers[index * 2]?.[1];
    const leftMs = Number(answers[index * 2 + 1]?.[1]);
    if (typeof text !== 'string' || leftMs < 0) {
      await queues.redis.zrem(keys.workers, name);
      continue;
    }
    const lastSeenAt = new Date(Date.now() - (limits.workerTtlMs - leftMs)).toISOString();
    workers.push({ ...Heartbeat.parse(JSON.parse(text)), lastSeenAt });
  }
  return workers;
}
