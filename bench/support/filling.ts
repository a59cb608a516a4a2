/** Fills Redis with runs, through the functions that a server and a worker use. */
import { createHash } from 'node:crypto';
import { EMPTY_LOG } from '../../src/job/artifact.ts';
import { newRunId } from '../../src/job/names.ts';
import { OUTCOMES } from '../../src/job/outcome.ts';
import { RunSpec } from '../../src/job/run.ts';
import type { Queues } from '../../src/queue/queues.ts';
import { openQueues } from '../../src/queue/queues.ts';
import { commitResult, createRecords } from '../../src/queue/records.ts';
import { submitRuns } from '../../src/queue/submit.ts';
import type { Redis } from '../../src/redis/connection.ts';
import { keys } from '../../src/redis/keys.ts';
import { createLogger } from '../../src/service/logger.ts';
import { BATCH } from './pool.ts';

export const SCRIPT = `${'# a line of a script of one kibibyte\n'.repeat(40).slice(0, 1_023)}\n`;
const SCRIPT_SHA256 = createHash('sha256').update(SCRIPT).digest('hex');

export function openBenchQueues(redisUrl: string): Queues {
  return openQueues({ redisUrl, logger: createLogger('bench', 'error'), sealLog: async () => EMPTY_LOG });
}

export interface Filling {
  platform: string;
  /** Null for ad-hoc runs. */
  job?: (n: number) => string | null;
}

export function specOf(n: number, o: Filling): RunSpec {
  return RunSpec.parse({
    id: newRunId(),
    job: o.job?.(n) ?? null,
    platform: o.platform,
    script: { sha256: SCRIPT_SHA256, bytes: SCRIPT.length },
    trigger: 'run',
    createdAt: new Date().toISOString(),
  });
}

/** Runs that wait; their ids. */
export async function fillWaiting(queues: Queues, count: number, o: Filling): Promise<string[]> {
  const ids: string[] = [];
  for (let at = 0; at < count; at += BATCH) {
    const specs = Array.from({ length: Math.min(BATCH, count - at) }, (_, n) => specOf(at + n, o));
    await submitRuns(queues, specs);
    ids.push(...specs.map(({ id }) => id));
  }
  return ids;
}

/** Runs that have ended after one attempt each, all outcomes in turn, as the commit of a worker leaves them; their logs have expired. */
export async function fillHistory(queues: Queues, count: number, o: Filling): Promise<string[]> {
  const ids: string[] = [];
  for (let at = 0; at < count; at += BATCH) {
    const specs = Array.from({ length: Math.min(BATCH, count - at) }, (_, n) => specOf(at + n, o));
    await createRecords(queues.redis, o.platform, specs);
    await Promise.all(specs.map((spec, n) => endRun(queues.redis, spec, OUTCOMES[(at + n) % OUTCOMES.length] ?? 'succeeded')));
    ids.push(...specs.map(({ id }) => id));
  }
  return ids;
}

async function endRun(redis: Redis, spec: RunSpec, outcome: (typeof OUTCOMES)[number]): Promise<void> {
  const moment = new Date().toISOString();
  const claim = newRunId();
  await redis.hset(keys.run(spec.id), 'n', 1, 'a1', JSON.stringify({ claim, worker: 'worker-1', startedAt: moment }));
  const exitCode = outcome === 'succeeded' ? 0 : outcome === 'failed' ? 1 : null;
  const end = { finishedAt: moment, outcome, exitCode, signal: null, killed: [] };
  const log = { lines: 12, bytes: 1_000, sha256: EMPTY_LOG.sha256, truncated: false, missing: 0 };
  const result = {
    outcome,
    exitCode,
    signal: null,
    reason: null,
    attempt: 1,
    claim,
    attemptsMade: 1,
    finishedAt: moment,
    log,
    artifactCount: 1,
  };
  await commitResult(redis, { spec, token: '', attempt: 1, claim, result, end });
}
