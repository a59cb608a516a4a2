/** Pages of runs, newest first, read from the indexes that a filter names. */
import type { RunPage } from '../job/api.ts';
import type { Outcome } from '../job/outcome.ts';
import type { RunRecord } from '../job/run.ts';
import { keys } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { BuilderError } from '../service/errors.ts';
import type { Queues } from './queues.ts';
import { readRecords } from './records.ts';
import { viewOf } from './view.ts';

export interface RunFilter {
  job?: string | undefined;
  platform?: string | undefined;
  outcome?: Outcome | undefined;
}

/** Looked at in one step of Redis: a few milliseconds of its time. */
const LOOKED_AT_ONCE = 1_000;
/** Of one page; one that finds less tells where to go on. */
const LOOKED_AT_MAX = 5_000;

/**
 * Runs that are in all of some indexes, the newest first. All are in the same order, so that what the first has and another has not is passed
 * over up to where that one goes on. KEYS indexes, runs. ARGV the run behind which to go on ('' for the newest), how many, how many are looked at
 * → {the last run looked at, 1 for the end, id…} or {'', -1} for a run that nobody knows
 * Where a run has left the first index meanwhile its place is known by the order of all.
 */
const commonScript = script(`
local indexes, wanted, rank = #KEYS - 1, tonumber(ARGV[2]), 0
if ARGV[1] ~= '' then
  local at = redis.call('ZREVRANK', KEYS[1], ARGV[1])
  local score = not at and redis.call('ZSCORE', KEYS[#KEYS], ARGV[1])
  if not at and not score then return {'', -1} end
  rank = at and at + 1 or redis.call('ZCOUNT', KEYS[1], '(' .. score, '+inf')
end
local found = {'', 0}
for _ = 1, tonumber(ARGV[3]) do
  local run = redis.call('ZREVRANGE', KEYS[1], rank, rank, 'WITHSCORES')
  if #run == 0 then
    found[2] = 1
    break
  end
  rank = rank + 1
  local lacking
  for i = 2, indexes do
    if not redis.call('ZSCORE', KEYS[i], run[1]) then lacking = KEYS[i] end
  end
  if lacking then
    local older = redis.call('ZREVRANGEBYSCORE', lacking, run[2], '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if #older == 0 then
      found[2] = 1
      break
    end
    rank = math.max(rank, redis.call('ZCOUNT', KEYS[1], '(' .. older[2], '+inf'))
  else
    table.insert(found, run[1])
    if #found == wanted + 2 then break end
  end
end
local last = rank > 0 and redis.call('ZREVRANGE', KEYS[1], rank - 1, rank) or {}
found[1] = last[1] or ''
if #last < 2 then found[2] = 1 end
return found
`);

/** `next` is a cursor for the following page, null at the end. A page may be short of `limit` and have a next one, where few of many match. */
export async function listRuns(queues: Queues, filter: RunFilter & { limit: number; cursor?: string | undefined }): Promise<RunPage> {
  const indexes = [...indexesOf(filter), keys.runs];
  let cursor = filter.cursor ?? '';
  let isEnd = false;
  const found: RunRecord[] = [];
  for (let looked = 0; looked < LOOKED_AT_MAX && found.length < filter.limit && !isEnd; looked += LOOKED_AT_ONCE) {
    const args = [cursor, filter.limit - found.length, LOOKED_AT_ONCE];
    // Runs are added all the time: a place is a run, and no rank outlives its step.
    const [last, end, ...ids] = (await runScript(queues.redis, commonScript, indexes, args)) as [string, number, ...string[]];
    if (end === -1) throw new BuilderError('invalid-value', `expected the cursor of a former page, got ${JSON.stringify(cursor)}`);
    // An index may be behind the record of a run that is executed again.
    found.push(
      ...(await readRecords(queues.redis, ids)).filter((record): record is RunRecord => record !== null && matches(record, filter)),
    );
    cursor = last;
    isEnd = end === 1;
  }
  return { runs: await Promise.all(found.map((record) => viewOf(queues, record))), next: isEnd ? null : cursor };
}

/** The first is that of the cursors. */
function indexesOf({ job, outcome, platform }: RunFilter): string[] {
  const named = [
    ...(job === undefined ? [] : [keys.runsOfJob(job)]),
    ...(outcome === undefined ? [] : [keys.runsOfOutcome(outcome)]),
    ...(platform === undefined ? [] : [keys.runsOfPlatform(platform)]),
  ];
  return named.length === 0 ? [keys.runs] : named;
}

function matches({ spec, result }: RunRecord, filter: RunFilter): boolean {
  return (
    (filter.job === undefined || spec.job === filter.job) &&
    (filter.platform === undefined || spec.platform === filter.platform) &&
    (filter.outcome === undefined || result?.outcome === filter.outcome)
  );
}
