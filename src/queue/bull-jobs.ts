/** Adding BullMQ's jobs of runs, many in one step and as small as BullMQ can read them. */
import type { Priority, RunSpec, Trigger } from '../job/run.ts';
import { bullJobKey, keys, runQueue } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { platformQueue, type Queues } from './queues.ts';

/** BullMQ priorities, the lowest number first; never 0, which BullMQ takes before all others. */
const EXECUTE_PRIORITY = 1;
export const PRIORITY_NUMBERS: Record<Priority, number> = { high: 2, normal: 10, low: 20 };

/** Redis does nothing else meanwhile: a few hundredths of a second. */
const AT_ONCE = 500;

/**
 * What BullMQ's own script (addPrioritizedJob) does for one job, for many: in half the time without the events, which nobody reads here, and in a
 * third of the memory without what BullMQ does not read, such as a job's id among its options: Redis packs a hash of short values only.
 * KEYS marker, meta, prioritized, active, pc, accepting, then nothing: the names of jobs are made of a prefix in the same slot. ARGV prefix, time
 * (ms), then id, name, data (JSON), priority of each
 */
const addJobsScript = script(`
local ids = {}
for i = 3, #ARGV, 4 do
  local id, priority = ARGV[i], ARGV[i + 3]
  local job = ARGV[1] .. id
  ids[#ids + 1] = id
  if redis.call('EXISTS', job) == 0 then
    local opts = '{"priority":' .. priority .. '}'
    redis.call('HSET', job, 'name', ARGV[i + 1], 'data', ARGV[i + 2], 'opts', opts, 'timestamp', ARGV[2], 'delay', 0, 'priority', priority)
    redis.call('ZADD', KEYS[3], priority * 0x100000000 + redis.call('INCR', KEYS[5]) % 0x100000000, id)
  end
end
local paused, most = unpack(redis.call('HMGET', KEYS[2], 'paused', 'concurrency'))
if not paused and not (most and redis.call('LLEN', KEYS[4]) >= tonumber(most)) then redis.call('ZADD', KEYS[1], 0, '0') end
redis.call('ZREM', KEYS[6], unpack(ids))
`);

/** Adds the jobs of recorded runs of one platform; adding one again changes nothing. */
export async function addJobs(queues: Queues, platform: string, specs: RunSpec[]): Promise<void> {
  const queue = platformQueue(queues, platform);
  const names = [...['marker', 'meta', 'prioritized', 'active', 'pc'].map((name) => queue.toKey(name)), keys.accepting];
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
