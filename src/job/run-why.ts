/** Why a run waits, or what became of it: one code and one sentence, from what Redis knows of it. */
import { z } from 'zod';
import type { WorkerInfo } from './api.ts';
import { nearestName, noWorkerText } from './nearest.ts';
import { OUTCOMES } from './outcome.ts';
import { RUN_STATES, type Run, type RunRecord, runView } from './run.ts';

export const RUN_WHYS = [
  'finished',
  'cancelling',
  'running',
  'worker-silent',
  'delayed',
  'platform-dropped',
  'platform-paused',
  'no-worker',
  'slots-busy',
  'about-to-be-taken',
  'being-queued',
] as const;

/** `GET runs/:id/why`; a fact that does not belong to the code is null. */
export const RunWhy = z.object({
  run: z.string(),
  job: z.string().nullable(),
  platform: z.string(),
  state: z.enum(RUN_STATES),
  code: z.enum(RUN_WHYS),
  message: z.string(),
  outcome: z.enum(OUTCOMES).nullable(),
  reason: z.string().nullable(),
  attempt: z.int(),
  worker: z.string().nullable(),
  /** Since when it is so, and until when at most or at least. */
  since: z.string().nullable(),
  until: z.string().nullable(),
  /** Its place among those that wait, the first is 1; the first of those before it. */
  position: z.int().nullable(),
  ahead: z.array(z.object({ run: z.string(), job: z.string().nullable() })),
  /** Of all living workers that take its platform. */
  workers: z.int(),
  slots: z.int(),
  busy: z.int(),
  /** Like its platform's name, and taken by a living worker; or merely known. */
  nearestServed: z.string().nullable(),
  nearestKnown: z.string().nullable(),
});
export type RunWhy = z.infer<typeof RunWhy>;

/** Where BullMQ has a run. `isHeld`: a worker holds its lock. */
export type Place =
  | { kind: 'active'; isHeld: boolean }
  | { kind: 'delayed'; untilMs: number }
  | { kind: 'waiting'; position: number; ahead: RunWhy['ahead'] }
  | { kind: 'nowhere' };

export interface PlatformFacts {
  name: string;
  isDropped: boolean;
  isPaused: boolean;
  /** Runs of it that workers hold. */
  active: number;
  /** Every living worker. */
  workers: WorkerInfo[];
  known: string[];
}

type Reason = Pick<RunWhy, 'code' | 'message'> & Partial<RunWhy>;
type Slots = Pick<RunWhy, 'workers' | 'slots' | 'busy'>;

export function whyOfRun(record: RunRecord, place: Place, platform: PlatformFacts): RunWhy {
  const run = runView(record, place.kind === 'active' ? 'running' : place.kind === 'delayed' ? 'delayed' : 'waiting');
  const slots = slotsOf(platform);
  const reason = whenEnded(run) ?? whenHeld(run, record, place) ?? whenQueued(run, place, platform, slots);
  return {
    ...{ run: run.id, job: run.job, platform: run.platform, state: run.state, outcome: run.outcome, attempt: run.attempt },
    ...{ reason: null, worker: null, since: null, until: null, position: null, ahead: [], nearestServed: null, nearestKnown: null },
    ...slots,
    ...reason,
  };
}

/** A platform's name like that one: of those that living workers take, and of all others that are known. */
export function nearestPlatforms({ name, workers, known }: Pick<PlatformFacts, 'name' | 'workers' | 'known'>): {
  nearestServed: string | null;
  nearestKnown: string | null;
} {
  const served = new Set(workers.flatMap(({ platforms }) => platforms));
  return {
    nearestServed: nearestName(name, [...served]),
    nearestKnown: nearestName(
      name,
      known.filter((one) => !served.has(one)),
    ),
  };
}

/** A worker's heartbeat is some seconds old; what is active is not, but a worker of several platforms counts over all of them. */
function slotsOf({ name, workers, active }: PlatformFacts): Slots {
  const taking = workers.filter(({ platforms }) => platforms.includes(name));
  const slots = taking.reduce((sum, { concurrency }) => sum + concurrency, 0);
  const running = taking.reduce((sum, one) => sum + one.running, 0);
  return { workers: taking.length, slots, busy: Math.min(slots, Math.max(active, running)) };
}

function whenEnded({ outcome, exitCode, signal, reason, worker, finishedAt }: Run): Reason | null {
  if (outcome === null) return null;
  const how = outcome === 'failed' && exitCode !== null ? ` with exit code ${exitCode}` : signal === null ? '' : ` by ${signal}`;
  const words = reason === null ? `${outcome}${how}` : reason.startsWith(`${outcome}:`) ? reason : `${outcome}${how}: ${reason}`;
  return { code: 'finished', message: `it has ended: ${words}`, reason, worker, since: finishedAt };
}

function whenHeld({ state, startedAt }: Run, { attempts, cancel }: RunRecord, place: Place): Reason | null {
  const worker = attempts.at(-1)?.worker ?? null;
  const isHeld = place.kind === 'active' && place.isHeld;
  if (cancel !== null) {
    const who = isHeld && worker !== null ? `its worker ${worker} ends it` : 'a server ends it within seconds';
    return { code: 'cancelling', message: `it is asked to be cancelled; ${who}`, reason: cancel.reason, worker, since: cancel.requestedAt };
  }
  if (place.kind !== 'active') return null;
  if (!isHeld) {
    return { code: 'worker-silent', message: `${worker ?? 'its worker'} is silent; the run is queued again within seconds`, worker };
  }
  if (state === 'running') return { code: 'running', message: `it runs on ${worker} since ${startedAt}`, worker, since: startedAt };
  return { code: 'about-to-be-taken', message: 'a worker has just taken it, and starts it' };
}

function whenQueued(run: Run, place: Place, platform: PlatformFacts, { workers, slots, busy }: Slots): Reason {
  if (place.kind === 'delayed') {
    const until = new Date(place.untilMs).toISOString();
    return { code: 'delayed', message: `it waits until ${until}, when attempt ${run.attempt + 1} is due`, until };
  }
  const waiting = place.kind === 'waiting' ? { position: place.position, ahead: place.ahead } : {};
  const { name } = platform;
  if (workers === 0) {
    const nearest = nearestPlatforms(platform);
    const dropped = platform.isDropped ? `; ${name} is dropped too` : '';
    const message = `${noWorkerText(name, nearest.nearestServed ?? nearest.nearestKnown)}${dropped}`;
    return { code: 'no-worker', message, ...nearest, ...waiting };
  }
  if (platform.isPaused)
    return { code: 'platform-paused', message: `${name} is paused on the board: workers take none of its runs`, ...waiting };
  if (platform.isDropped) {
    return { code: 'platform-dropped', message: `${name} is dropped; this run was accepted before and may still be taken`, ...waiting };
  }
  if (place.kind !== 'waiting') return { code: 'being-queued', message: 'it is accepted; a server queues it within seconds' };
  if (busy >= slots) {
    const message = `all ${slots} slots of ${name} are busy; it is number ${place.position} in the queue`;
    return { code: 'slots-busy', message, ...waiting };
  }
  if (place.position > slots - busy) {
    const message = `${slots - busy} slots of ${name} are free, and it is number ${place.position} in the queue`;
    return { code: 'slots-busy', message, ...waiting };
  }
  return { code: 'about-to-be-taken', message: 'a worker is free and takes it now', ...waiting };
}
