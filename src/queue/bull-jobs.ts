/** Adding BullMQ's jobs of runs, many in one step and as small as BullMQ can read them. */
import { addPrioritizedJob } from 'bullmq/dist/esm/scripts/addPrioritizedJob-9.js';
import type { Priority, RunSpec, Trigger } from '../job/run.ts';
import { bullJobKey, keys, runQueue } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { platformQueue, type Queues } from './queues.ts';

/** BullMQ priorities, the lowest number first; never 0, which BullMQ takes before all others. */
const EXECUTE_PRIORITY = 1;
export const PRIORITY_NUMBERS: Record<Priority, number> = { high: 2, normal: 10, low: 20 };

/** In the order in which BullMQ's script has them. */
const BULL_KEYS = ['marker', 'meta', 'id', 'prioritized', 'delayed', 'completed', 'active', 'events', 'pc'];
/** Redis does nothing else meanwhile: a few hundredths of a second. */
const AT_ONCE = 500;

/**
 * BullMQ's own script for each job. What a job has beyond that, its id among its options, say, would make its hash three times as large:
 * Redis packs a hash of short values only.
 * KEYS those of BullMQ, accepting. ARGV prefix of BullMQ's jobs, time (ms), then id, name, data (JSON), priority of each
 */
const addJobsScript = script(`
local function add(KEYS, ARGV)
${addPrioritizedJob.content}
end
local ids = {}
for i = 3, #ARGV, 4 do
  local job = {ARGV[1], ARGV[i], ARGV[i + 1], ARGV[2]}
  add(KEYS, {cmsgpack.pack(job), ARGV[i + 2], cmsgpack.pack({priority = tonumber(ARGV[i + 3])})})
  ids[#ids + 1] = ARGV[i]
end
redis.call('ZREM', KEYS[10], unpack(ids))
`);

/** Adds the jobs of recorded runs of one platform; adding one again changes nothing. */
export async function addJobs(queues: Queues, platform: string, specs: RunSpec[]): Promise<void> {
  const queue = platformQueue(queues, platform);
  const names = [...BULL_KEYS.map((name) => queue.toKey(name)), keys.accepting];
  const prefix = bullJobKey(runQueue(platform), '');
  for (let at = 0; at < specs.length; at += AT_ONCE) {
    const jobs = specs.slice(at, at + AT_ONCE).flatMap((spec) => [spec.id, spec.job ?? 'ad-hoc', dataOf(spec), priorityOf(spec)]);
    await runScript(queues.redis, addJobsScript, names, [prefix, Date.now(), ...jobs]);
  }
}

function dataOf({ trigger }: RunSpec): string {
  return JSON.stringify({ trigger });
}

function priorityOf({ trigger, priority }: { trigger: Trigger; priority: Priority }): number {
  return trigger === 'execute' ? EXECUTE_PRIORITY : PRIORITY_NUMBERS[priority];
}
