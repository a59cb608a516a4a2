/** Consuming ticks: any server takes one and submits its runs under ids that every server would make. */

import type { LastTick } from '../job/api.ts';
import type { JobDefinition } from '../job/definition.ts';
import { tickRunId } from '../job/derived-ids.ts';
import { InvalidValue } from '../job/invalid-value.ts';
import { limits } from '../job/limits.ts';
import { redisNowMs } from '../redis/clock.ts';
import type { Redis } from '../redis/connection.ts';
import { BULL_PREFIX, TICK_QUEUE } from '../redis/keys.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { type Job, Worker } from './bullmq.ts';
import { takePlace } from './cancel.ts';
import { getJob, listJobs, restartTicks, ticksAreScheduled } from './definitions.ts';
import { type StoreScript, specsOfJob } from './execute.ts';
import { droppedPlatforms } from './platform-sets.ts';
import { clockSettings, type Queues, tickQueue } from './queues.ts';
import { submitRun } from './submit.ts';
import { admitTick, noteTick } from './tick-counts.ts';
import { type Tick, tickOfId } from './tick-jobs.ts';

const TICKS_AT_ONCE = 16;

/** Consumes ticks until closed; `connection` waits for Redis as BullMQ's workers must. */
export function consumeTicks(queues: Queues, storeScript: StoreScript, connection: Redis): { close(): Promise<void> } {
  const worker = new Worker(TICK_QUEUE, (job: Job) => submitTick(queues, storeScript, job), {
    connection,
    prefix: BULL_PREFIX,
    concurrency: TICKS_AT_ONCE,
    lockDuration: limits.lockDurationMs,
    // Servers look for what one that died had taken, together with abandoned runs.
    skipStalledCheck: true,
    drainDelay: limits.queueWaitMs / 1_000,
    settings: clockSettings,
  });
  worker.on('error', (cause) => queues.logger.debug({ error: oneLine(cause) }, 'tick queue'));
  return { close: () => worker.close() };
}

/**
 * Starts the ticks that a crash between a definition and its scheduler left out, late if need be, and those that a server
 * whose clock was ahead has put too far ahead; so only by a clock that agrees with Redis's, the one that all servers see. Only what was wrong for the same definition the time
 * before, which `wrong` remembers: somebody may just be scheduling a newer one, and this would put the older back.
 */
export async function completeTicks(queues: Queues, wrong: Map<string, string>): Promise<void> {
  const nowMs = Date.now();
  const aheadMs = nowMs - (await redisNowMs(queues.redis));
  if (Math.abs(aheadMs) > limits.tickLateMs) {
    queues.logger.warn({ aheadMs }, 'the clock of this server is not that of Redis: ticks are left as they are');
    return;
  }
  for (const definition of await listJobs(queues)) {
    const { name, updatedAt } = definition;
    if (await ticksAreScheduled(queues, definition, nowMs)) wrong.delete(name);
    else if (wrong.get(name) !== updatedAt) wrong.set(name, updatedAt);
    else await restartTicks(queues, definition);
  }
}

const NO_SUCH_JOB = { submitted: [], reason: 'no such job any more' };

async function submitTick(queues: Queues, storeScript: StoreScript, job: Job): Promise<object> {
  const tick = tickOfId(job.id ?? '');
  const definition = tick === null ? null : await getJob(queues, tick.job);
  if (tick === null || definition === null) {
    if (tick !== null) await tickQueue(queues).removeJobScheduler(tick.job);
    return NO_SUCH_JOB;
  }
  const due = { queues, storeScript, definition, tick };
  const verdict = definition.paused ? 'paused' : await admitTick(queues, definition, tick);
  if (verdict === 'gone') return NO_SUCH_JOB;
  const taken: Taken = verdict === 'run' ? await submitRuns(due) : { ...NOTHING, code: verdict };
  const last: LastTick = { at: new Date(tick.tickMs).toISOString(), code: taken.code, detail: taken.detail };
  await noteTick(queues.redis, definition, { tick, last, skipped: taken.skipped });
  return taken;
}

interface DueTick {
  queues: Queues;
  storeScript: StoreScript;
  definition: JobDefinition;
  tick: Tick;
}

interface Taken {
  code: LastTick['code'];
  detail: string | null;
  /** Ids of the runs that it made. */
  submitted: string[];
  /** On one platform at least a run of the job was still open. */
  skipped: boolean;
}

const NOTHING: Taken = { code: 'run', detail: null, submitted: [], skipped: false };

async function submitRuns({ queues, storeScript, definition, tick }: DueTick): Promise<Taken> {
  const idOf = (platform: string): string => tickRunId(definition.id, platform, tick.tickMs);
  const at = new Date(tick.tickMs).toISOString();
  const submitted: string[] = [];
  const busy: string[] = [];
  try {
    const dropped = await droppedPlatforms(queues);
    for (const spec of await specsOfJob(queues, storeScript, { definition, trigger: 'schedule', idOf })) {
      if (dropped.includes(spec.platform)) continue;
      if (definition.overlap === 'cancel') await takePlace(queues, spec, `overlap: the tick of ${at} takes its place`);
      if ((await submitRun(queues, spec, { alone: definition.overlap === 'skip' })) === 'overlap') busy.push(spec.platform);
      else submitted.push(spec.id);
    }
  } catch (cause) {
    // A fault of the definition will not mend itself by trying again; everything else (Redis, store) is tried until it works.
    const hopeless =
      cause instanceof InvalidValue || (cause instanceof BuilderError && ['not-found', 'platform-dropped'].includes(cause.code));
    if (!hopeless) throw cause;
    queues.logger.warn({ job: definition.name, tick: at, error: oneLine(cause) }, 'a tick made no run');
    return { code: 'refused', detail: oneLine(cause), submitted, skipped: false };
  }
  const code = submitted.length > 0 ? 'run' : busy.length > 0 ? 'overlap' : 'platform-dropped';
  const detail = busy.length > 0 ? `a run is open on ${busy.join(', ')}` : null;
  return { code, detail, submitted, skipped: busy.length > 0 };
}
