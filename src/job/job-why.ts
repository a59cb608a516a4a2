/** Why a job has not run, or will not: one code and one sentence. */
import { z } from 'zod';
import { LastTick, TickCounts } from './api.ts';
import { limits } from './limits.ts';
import { noWorkerText } from './nearest.ts';
import { RunWhy } from './run-why.ts';

export const JOB_WHYS = [
  'runs-wait',
  'running',
  'paused',
  'no-platform',
  'platform-dropped',
  'tick-made-no-run',
  'no-worker',
  'never-due',
  'not-due-again',
  'due',
] as const;

/** `GET jobs/:name/why`. */
export const JobWhy = z.object({
  job: z.string(),
  code: z.enum(JOB_WHYS),
  message: z.string(),
  paused: z.boolean(),
  next: z.string().nullable(),
  platforms: z.array(z.string()),
  /** Those of them that no living worker takes, each with the name that a worker takes and that is like it. */
  unserved: z.array(z.object({ platform: z.string(), nearestServed: z.string().nullable(), nearestKnown: z.string().nullable() })),
  dropped: z.array(z.string()),
  openRuns: z.int(),
  /** Of the first open run that waits, or runs where none waits; null where none is open. */
  openRun: RunWhy.nullable(),
  lastTick: LastTick.nullable(),
  ticks: TickCounts,
});
export type JobWhy = z.infer<typeof JobWhy>;

/** What is known of a job; `isEverDue` is false for a schedule that has no ticks of its own. */
export type JobFacts = Omit<JobWhy, 'code' | 'message'> & { isEverDue: boolean };

export function whyOfJob({ isEverDue, ...facts }: JobFacts): JobWhy {
  return { ...facts, ...reasonOf({ isEverDue, ...facts }) };
}

function reasonOf(facts: JobFacts): Pick<JobWhy, 'code' | 'message'> {
  const { job, openRun, openRuns, lastTick, next, platforms, dropped } = facts;
  const [unserved] = facts.unserved;
  if (openRun !== null && openRun.code !== 'running') {
    const runs = openRuns === 1 ? 'its open run' : `the first of its ${openRuns} open runs that wait`;
    return { code: 'runs-wait', message: `${runs}, ${openRun.run} on ${openRun.platform}: ${openRun.message}` };
  }
  if (openRun !== null) return { code: 'running', message: `its run ${openRun.run} runs on ${openRun.worker} since ${openRun.since}` };
  if (facts.paused) return { code: 'paused', message: 'it is paused' };
  if (platforms.length === 0) return { code: 'no-platform', message: 'its template is gone, or has a script for no platform' };
  if (dropped.length === platforms.length)
    return { code: 'platform-dropped', message: `${dropped.join(', ')} takes no runs (builder undrop-platform)` };
  if (lastTick !== null && lastTick.code !== 'run') {
    return { code: 'tick-made-no-run', message: `the tick of ${lastTick.at} made no run: ${wordsOf(lastTick)}; ${nextText(next)}` };
  }
  if (unserved !== undefined) {
    const { platform, nearestServed, nearestKnown } = unserved;
    return { code: 'no-worker', message: `${noWorkerText(platform, nearestServed ?? nearestKnown)}; ${nextText(next)}` };
  }
  if (next !== null) return { code: 'due', message: nextText(next) };
  if (!facts.isEverDue) return { code: 'never-due', message: `it is never due by itself (builder execute ${job})` };
  return { code: 'not-due-again', message: 'its one moment is past' };
}

function nextText(next: string | null): string {
  return next === null ? 'it is not due again by itself' : `it is due next at ${next}`;
}

function wordsOf({ code, detail }: LastTick): string {
  switch (code) {
    case 'misfire':
      return 'no server was there in time, and it is not to run late';
    case 'fuse':
      return `there were more than ${limits.launchesPerMinuteMax} ticks within a minute`;
    case 'paused':
      return 'it was paused';
    case 'platform-dropped':
      return 'its platform was dropped';
    case 'overlap':
    case 'refused':
    case 'run':
      return detail ?? code;
  }
}
