/** What every attempt on this worker shares. */
import type { Store } from '../src/artifacts/store.ts';
import type { RunRecord, RunSpec } from '../src/job/run.ts';
import type { Redis } from '../src/redis/connection.ts';
import type { Logger } from '../src/service/logger.ts';
import type { Executor } from './executor.ts';
import type { Limiter } from './limits/limiter.ts';
import type { RunFolders } from './run-folder.ts';
import type { RunningRuns } from './running-runs.ts';
import type { Secrets } from './secrets.ts';

export interface WorkerContext {
  /** Waits while Redis is away: an attempt outlives an outage. */
  redis: Redis;
  store: Store;
  execute: Executor;
  limiter: Limiter;
  running: RunningRuns;
  folders: RunFolders;
  workerName: string;
  /** Folders that scripts are not to see. */
  hide: string[];
  secrets: Secrets;
  logger: Logger;
  /** Aborted when the worker takes nothing new. */
  draining: AbortSignal;
  /** When it was last told to end, by performance.now(); null while nobody has. */
  toldAtMs(): number | null;
  /** Aborted when the worker must end now: what runs goes back to the queue. */
  forcing: AbortSignal;
}

/** An attempt that this worker has claimed. */
export interface OpenAttempt {
  spec: RunSpec;
  attempt: number;
  claim: string;
  startedAt: string;
  /** Retries by the run's policy before this attempt. */
  retries: number;
  /** As it was at the claim: a Redis that comes back empty gets it again. */
  record: RunRecord;
}
