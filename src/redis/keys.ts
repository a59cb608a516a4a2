/**
 * Every key that builder itself keeps in Redis: name, type, lifetime. Built nowhere else.
 * Keys in the hash tag `{builder}` share one slot with BullMQ's, so that one script may touch both.
 */
import { createHash, hash } from 'node:crypto';
import { limits } from '../job/limits.ts';

/** BullMQ's prefix: its keys are `{builder}:<queue>:…`. */
export const BULL_PREFIX = '{builder}';

export const TICK_QUEUE = 'tick';

/** The queue of a platform's runs. */
export function runQueue(platform: string): string {
  return `run-${platform}`;
}

/** BullMQ's lock on a job: a string, the token of the worker that holds it, living limits.lockDurationMs. BullMQ's own. */
export function bullLockKey(queue: string, jobId: string): string {
  return `${BULL_PREFIX}:${queue}:${jobId}:lock`;
}

/** BullMQ's list of the jobs that were given back, or whose worker was taken for dead. */
export function bullWaitKey(queue: string): string {
  return `${BULL_PREFIX}:${queue}:wait`;
}

/** BullMQ's list of the jobs that workers hold, and its hash of one job. */
export function bullActiveKey(queue: string): string {
  return `${BULL_PREFIX}:${queue}:active`;
}

/** BullMQ's mark, living limits.stalledIntervalMs, that a queue was looked through for abandoned jobs. */
export function bullStalledCheckKey(queue: string): string {
  return `${BULL_PREFIX}:${queue}:stalled-check`;
}

/** BullMQ's sorted set of the jobs that wait, the next first; those of its list above come before them, the last first. */
export function bullPrioritizedKey(queue: string): string {
  return `${BULL_PREFIX}:${queue}:prioritized`;
}

export function bullJobKey(queue: string, jobId: string): string {
  return `${BULL_PREFIX}:${queue}:${jobId}`;
}

/** Characters of an id by which ids are kept together: 4,096 sets, packed by Redis up to 128 members each. */
export const RUN_IDS_CHARS = 3;

const own = (name: string): string => `{builder}:b:${name}`;

export const keys = {
  /** Hash, for ever: name → JobDefinition. */
  jobs: own('jobs'),
  /** Hash, for ever: name → Template. */
  templates: own('templates'),
  /** Hash, for ever: `spec` (src/queue/stored-spec.ts; `spec2`… its later pieces while the run waits), `cancel`, `result`, `n` (newest attempt), `a<N>` (AttemptRecord), `deaths`, `faults`. */
  run: (id: string): string => own(`run:${id}`),
  /** Sorted sets, for ever, score 0: run ids that begin alike, for lookup by prefix. Short ones take a third of what a long one would. */
  runIds: (prefix: string): string => own(`run-ids:${prefix.slice(0, RUN_IDS_CHARS)}`),
  /** Sorted sets, for ever: run ids in the order of acceptance; the score is its time (Redis's clock, ms), or more where that went back. */
  runs: own('runs'),
  runsOfJob: (job: string): string => own(`runs:job:${job}`),
  runsOfPlatform: (platform: string): string => own(`runs:platform:${platform}`),
  runsOfOutcome: (outcome: string): string => own(`runs:outcome:${outcome}`),
  /** Sorted set: runs of a platform that have no result, by time of acceptance (Redis's clock, ms). */
  openRuns: (platform: string): string => own(`open:${platform}`),
  /** Sorted set: those of one job among them, by the same time. */
  openRunsOfJob: (platform: string, job: string): string => own(`open:${platform}:${job}`),
  /** Hash, while there is the job: `missed`, `skipped`, `fused` with the last tick of each (`…Ms`), `countedMs`, `fuseToldMs`, `last`. */
  ticks: (job: string): string => own(`ticks:${job}`),
  /** Sorted set, a minute: ticks of a job that made runs, by time (Redis's clock, ms). */
  launches: (job: string): string => own(`launches:${job}`),
  /** Sorted set: runs whose record is written and whose BullMQ job may be missing, by time (Redis's clock, ms). */
  accepting: own('accepting'),
  /** Sorted set: unfinished runs asked to be cancelled, by time (Redis's clock, ms). */
  cancelling: own('cancelling'),
  /** Sorted set: runs that wait for their next attempt, by when it is due (Redis's clock, ms). */
  retries: own('retries'),
  /**
   * Hash, for ever: what servers note whenever they look. `id`, made by the first one, and `beats`, counted by all: another id, or fewer beats, is a Redis that
   * has lost what it had. `at` when they last did and `since` when without a longer pause; `clock` as `at`, or when a retry was put off later (Redis's own clock, ms).
   */
  watch: own('watch'),
  /** Sets, for ever. */
  platforms: own('platforms'),
  droppedPlatforms: own('dropped-platforms'),
  /** Sorted set: worker names, score unused; a worker lives while its key below does. */
  workers: own('workers'),
  /** String, limits.workerTtlMs: WorkerInfo of a living worker. */
  worker: (name: string): string => own(`worker:${name}`),
  /** Hash, for ever: token id → stored token. */
  tokens: own('tokens'),
  /** String, limits.sessionTtlMs: token id of a browser's session, or `bootstrap:<sha256 of the token>`; named by the SHA-256 of the cookie. */
  session: (cookieSha256: string): string => own(`session:${cookieSha256}`),
  /** String, limits.idempotencyTtlMs: run ids that a request with this key made. */
  idempotency: (tokenId: string, key: string): string => own(`idem:${tokenId}:${createHash('sha256').update(key).digest('hex')}`),
  /** Pub/sub channel: ids of runs to cancel, for workers. */
  cancelChannel: own('cancel'),
  /** Stream, limits.logStreamTtlMsAfterEnd after the end: one attempt's log, entries `<first line>-0` with fields `n`, `d`; the place of its group `last` is the last line. */
  log: (run: string, attempt: number, claim: string): string => `{${shardOf(run)}}:b:log:${run}:${attempt}-${claim}`,
  /** That stream, within a transaction that adds to it. */
  logOpen: (run: string, attempt: number, claim: string): string => `{${shardOf(run)}}:b:log-open:${run}:${attempt}-${claim}`,
  /** Stream, limits.wakeEntriesMax: ids of runs whose log grew, of one shard. */
  wake: (shard: string): string => `{${shard}}:b:wake`,
} as const;

/** One of limits.logShards tags, from the run's id: `log-00` … `log-63`. */
export function shardOf(run: string): string {
  const number = Number.parseInt(hash('sha1', run).slice(0, 8), 16) % limits.logShards;
  return `log-${String(number).padStart(2, '0')}`;
}
