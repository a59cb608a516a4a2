/** What is kept of a job's ticks: which made no run of their own, and what became of the newest. */
import { z } from 'zod';
import { LastTick, type TickCounts } from '../job/api.ts';
import type { JobDefinition } from '../job/definition.ts';
import { limits } from '../job/limits.ts';
import { judgeTick } from '../job/tick-rules.ts';
import type { Redis } from '../redis/connection.ts';
import { bullJobKey, keys, TICK_QUEUE } from '../redis/keys.ts';
import { runScript } from '../redis/script.ts';
import { type Queues, tickQueue } from './queues.ts';
import { servedMs } from './served.ts';
import { followingTick, type Tick } from './tick-jobs.ts';
import { admitTickScript, noteTickScript } from './tick-scripts.ts';

const FUSE_WINDOW_MS = 60_000;
const Verdict = z.enum(['run', 'misfire', 'fuse', 'gone']);
type Verdict = z.infer<typeof Verdict>;

const Whole = z.coerce.number().int();
const StoredTicks = z.object({
  missed: Whole.default(0),
  missedMs: Whole.optional(),
  skipped: Whole.default(0),
  skippedMs: Whole.optional(),
  fused: Whole.default(0),
  fusedMs: Whole.optional(),
  countedMs: Whole.optional(),
  last: z
    .string()
    .transform((text) => LastTick.parse(JSON.parse(text)))
    .optional(),
});
type StoredTicks = z.infer<typeof StoredTicks>;

export interface TicksOfJob {
  counts: TickCounts;
  last: LastTick | null;
}

export async function ticksOfJob(redis: Redis, name: string): Promise<TicksOfJob> {
  const stored = await storedTicks(redis, name);
  return { counts: countsOf(stored), last: stored.last ?? null };
}

export async function forgetTicks(redis: Redis, name: string): Promise<void> {
  await redis.del(keys.ticks(name), keys.launches(name));
}

/** Whether a tick may make runs: decided once, and what was missed before it is counted once, however often it is asked; `gone` when its job is no more. */
export async function admitTick(queues: Queues, definition: JobDefinition, tick: Tick): Promise<Verdict> {
  const followingMs = tick.repeats ? await followingTick(tickQueue(queues), tick, definition.schedule) : null;
  const series = followingMs === null ? null : { schedule: definition.schedule, followingMs };
  const served = await servedMs(queues);
  for (;;) {
    const stored = await storedTicks(queues.redis, definition.name);
    const countedMs = stored.countedMs ?? null;
    const times = { tickMs: tick.tickMs, countedMs, nowMs: Date.now(), servedMs: served };
    const judged = judgeTick({ misfire: definition.misfire, series, ...times });
    const [answer, age, first] = (await runScript(
      queues.redis,
      admitTickScript,
      [bullJobKey(TICK_QUEUE, tick.id), keys.ticks(definition.name), keys.launches(definition.name), keys.jobs],
      [
        ...[tick.tickMs, stored.countedMs ?? '', judged.verdict, judged.missed, judged.lastMissedMs ?? '', judged.countedMs ?? ''],
        ...[limits.launchesPerMinuteMax, FUSE_WINDOW_MS, definition.name, definition.id],
      ],
    )) as [string, string | undefined, number | undefined];
    if (answer === 'changed') continue;
    const verdict = Verdict.parse(answer);
    if (age === 'new') tell(queues, { definition, tick, verdict, missed: judged.missed, isFirstHeldBack: first === 1 });
    return verdict;
  }
}

/** Keeps what became of a tick, while there is its job; `skipped` counts it, once. */
export async function noteTick(
  redis: Redis,
  { name, id }: JobDefinition,
  o: { tick: Tick; last: LastTick; skipped: boolean },
): Promise<void> {
  const changed = [bullJobKey(TICK_QUEUE, o.tick.id), keys.ticks(name), keys.jobs];
  await runScript(redis, noteTickScript, changed, [o.tick.tickMs, JSON.stringify(o.last), o.skipped ? 'skipped' : '', name, id]);
}

async function storedTicks(redis: Redis, name: string): Promise<StoredTicks> {
  return StoredTicks.parse(await redis.hgetall(keys.ticks(name)));
}

interface Told {
  definition: JobDefinition;
  tick: Tick;
  verdict: Verdict;
  missed: number;
  isFirstHeldBack: boolean;
}

function tell({ logger }: Queues, { definition, tick, verdict, missed, isFirstHeldBack }: Told): void {
  const about = { job: definition.name, tick: new Date(tick.tickMs).toISOString() };
  if (missed > 0)
    logger.warn({ ...about, missed }, verdict === 'misfire' ? 'ticks were missed' : 'ticks were missed; one run stands for them');
  if (isFirstHeldBack) logger.error({ ...about, most: limits.launchesPerMinuteMax }, 'too many ticks within a minute; they make no runs');
}

function countsOf(stored: StoredTicks): TickCounts {
  const moment = (atMs: number | undefined): string | null => (atMs === undefined ? null : new Date(atMs).toISOString());
  const { missed, skipped, fused } = stored;
  return {
    ...{ missed, lastMissedAt: moment(stored.missedMs) },
    ...{ skipped, lastSkippedAt: moment(stored.skippedMs) },
    ...{ fused, lastFusedAt: moment(stored.fusedMs) },
  };
}
