/** The workers that are alive: each says so every few seconds, under a key that Redis lets expire. */
import type { z } from 'zod';
import { WorkerInfo } from '../job/api.ts';
import { limits } from '../job/limits.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import type { Queues } from './queues.ts';

const Heartbeat = WorkerInfo.omit({ lastSeenAt: true });
export type Heartbeat = z.infer<typeof Heartbeat>;

/**
 * KEYS worker, workers, platforms, then the records of what it runs. ARGV WorkerInfo (JSON), its life (ms), name, `same` or nothing, then its platforms
 * → for each run 1 if it is asked to be cancelled
 */
const beatScript = script(`
if ARGV[4] ~= 'same' or redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('ZADD', KEYS[2], 0, ARGV[3])
  redis.call('SADD', KEYS[3], unpack(ARGV, 5))
end
local asked = {}
for i = 4, #KEYS do table.insert(asked, redis.call('HEXISTS', KEYS[i], 'cancel')) end
return asked
`);

/**
 * Says that a worker is alive, and returns which of the runs it names are asked to be cancelled. `isSame`: it has said the same before, which
 * costs Redis less.
 */
export async function beat(redis: Redis, worker: Heartbeat, running: string[], isSame: boolean): Promise<string[]> {
  const changed = [keys.worker(worker.name), keys.workers, keys.platforms, ...running.map(keys.run)];
  const said = [JSON.stringify(worker), limits.workerTtlMs, worker.name, isSame ? 'same' : '', ...worker.platforms];
  const asked = (await runScript(redis, beatScript, changed, said)) as number[];
  return running.filter((_, index) => asked[index] === 1);
}

/** One that has just said that it lives stays. KEYS worker, workers. ARGV name */
const forgetDeadScript = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
`);

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
      await runScript(queues.redis, forgetDeadScript, [keys.worker(name), keys.workers], [name]);
      continue;
    }
    const lastSeenAt = new Date(Date.now() - (limits.workerTtlMs - leftMs)).toISOString();
    workers.push({ ...Heartbeat.parse(JSON.parse(text)), lastSeenAt });
  }
  return workers;
}
