/** Platforms: known since a run or a worker named them; a dropped one takes no new runs. */
import { keys } from '../redis/keys.ts';
import { cancelIfWaiting } from './cancel.ts';
import { droppedPlatforms, knownPlatforms } from './platform-sets.ts';
import { platformQueue, type Queues } from './queues.ts';
import { readRecords } from './records.ts';
import { listWorkers } from './workers.ts';

const CANCEL_PAGE = 500;

export async function listPlatforms(queues: Queues): Promise<{ name: string; dropped: boolean; workers: number }[]> {
  const [names, dropped, workers] = await Promise.all([knownPlatforms(queues), droppedPlatforms(queues), listWorkers(queues)]);
  return [...new Set([...names, ...dropped])].sort().map((name) => ({
    name,
    dropped: dropped.includes(name),
    workers: workers.filter((worker) => worker.platforms.includes(name)).length,
  }));
}

/** New runs are refused from now on; what waits is cancelled with that reason; what runs goes on. */
export async function dropPlatform(queues: Queues, platform: string): Promise<void> {
  await queues.redis.sadd(keys.droppedPlatforms, platform);
  const reason = `platform-dropped: ${platform} takes no runs`;
  const queue = platformQueue(queues, platform);
  for (let ids = [''], last = ''; ids.length > 0; ) {
    ids = await queue.getRanges(['wait', 'prioritized', 'delayed'], 0, CANCEL_PAGE - 1, true);
    if (ids[0] === last) break;
    last = ids[0] ?? '';
    for (const id of ids) await cancelIfWaiting(queues, platform, id, reason);
  }
  // Those that were recorded just before and are not queued yet, and those that a worker was given and has not begun.
  for (const { id } of await unstarted(queues, platform)) await cancelIfWaiting(queues, platform, id, reason);
}

async function unstarted(queues: Queues, platform: string): Promise<{ id: string }[]> {
  const records = await readRecords(queues.redis, await queues.redis.zrangebyscore(keys.openRuns(platform), '-inf', '+inf'));
  return records.flatMap((record) =>
    record === null || record.attempts.at(-1)?.outcome === null || record.cancel !== null ? [] : [record.spec],
  );
}

export async function undropPlatform(queues: Queues, platform: string): Promise<void> {
  await queues.redis.srem(keys.droppedPlatforms, platform);
}
