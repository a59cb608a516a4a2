/** Bodies and answers of the HTTP interface that are not a run, an artifact or a log line. */
import { z } from 'zod';
import { Artifact } from './artifact.ts';
import { limits } from './limits.ts';
import { Name, Run, RunOptions } from './run.ts';
import { PERIODS } from './schedule.ts';
import { PARAMETER_NAME } from './template.ts';
import { TICK_ENDS, TickPolicies } from './tick-rules.ts';

export const SCOPES = ['read', 'submit', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

const ScriptText = z
  .string()
  .min(1, 'expected a script that is not empty')
  .refine((text) => Buffer.byteLength(text) <= limits.scriptBytesMax, `expected a script of at most ${limits.scriptBytesMax} bytes`);
const Params = z.record(z.string().regex(PARAMETER_NAME, 'expected a parameter name of A-Z, 0-9 and _'), z.string().max(4096));

/** `POST runs`: an ad-hoc run, or an array of them. */
export const SubmitRun = RunOptions.extend({ platform: Name, script: ScriptText }).strict();
export type SubmitRun = z.infer<typeof SubmitRun>;

/** `PUT jobs/:name`. At most one of period, cron, every, at; none means `daily`. Exactly one of script (with platform) and template. */
export const PutJob = RunOptions.extend({
  ...TickPolicies.shape,
  platform: Name.optional(),
  script: ScriptText.optional(),
  template: Name.optional(),
  params: Params.optional(),
  period: z.enum(PERIODS).optional(),
  cron: z.string().max(256).optional(),
  tz: z.string().max(64).optional(),
  every: z.string().max(64).optional(),
  at: z.string().max(64).optional(),
}).strict();
export type PutJob = z.infer<typeof PutJob>;

const Count = z.int().min(0).default(0);
const LastMoment = z.string().nullable().default(null);

/**
 * Ticks of a job that made no run of their own. `missed`: no server took them in time; `skipped`: a run of the job was open, and it
 * is not to overlap; `fused`: more than limits.launchesPerMinuteMax within a minute.
 */
export const TickCounts = z.object({
  missed: Count,
  lastMissedAt: LastMoment,
  skipped: Count,
  lastSkippedAt: LastMoment,
  fused: Count,
  lastFusedAt: LastMoment,
});
export type TickCounts = z.infer<typeof TickCounts>;

/** The newest tick, and what became of it. */
export const LastTick = z.object({ at: z.string(), code: z.enum(TICK_ENDS), detail: z.string().nullable() });
export type LastTick = z.infer<typeof LastTick>;

/** A job as `GET jobs/:name` shows it. */
export const Job = RunOptions.extend({
  ...TickPolicies.shape,
  name: z.string(),
  platforms: z.array(z.string()),
  script: z.string().nullable(),
  template: z.string().nullable(),
  params: z.record(z.string(), z.string()),
  period: z.enum(PERIODS).optional(),
  cron: z.string().optional(),
  tz: z.string().nullable(),
  every: z.string().optional(),
  at: z.string().optional(),
  next: z.string().nullable(),
  paused: z.boolean(),
  ticks: TickCounts.prefault({}),
  createdAt: z.string(),
  updatedAt: z.string(),
});
export type Job = z.infer<typeof Job>;

export const Reschedule = z.object({ next: z.string(), period: z.enum(PERIODS).optional() }).strict();
export const Execute = z.object({ platform: Name.optional() }).strict();
export const Cancel = z.object({ reason: z.string().max(limits.reasonCharsMax).optional() }).strict();
export const PutTemplate = z.object({ scripts: z.record(Name, ScriptText) }).strict();
export const CreateToken = z.object({ name: Name, scope: z.enum(SCOPES) }).strict();

/** A token as listed; its secret is shown once, at creation, as `token`. */
export const TokenInfo = z.object({ id: z.string(), name: z.string(), scope: z.enum(SCOPES), createdAt: z.string() });
export type TokenInfo = z.infer<typeof TokenInfo>;

export const WorkerInfo = z.object({
  name: z.string(),
  platforms: z.array(z.string()),
  concurrency: z.int(),
  running: z.int(),
  lastSeenAt: z.string(),
  version: z.string(),
  sandbox: z.string(),
});
export type WorkerInfo = z.infer<typeof WorkerInfo>;

/** One line of `info`'s schedule; exactly one of period, cron, every, at. */
export const ScheduleEntry = z.object({
  job: z.string(),
  next: z.string().nullable(),
  period: z.enum(PERIODS).optional(),
  cron: z.string().optional(),
  every: z.string().optional(),
  at: z.string().optional(),
  tz: z.string().nullable(),
  paused: z.boolean(),
  ticks: TickCounts.prefault({}),
});
export type ScheduleEntry = z.infer<typeof ScheduleEntry>;

export const Info = z.object({
  schedule: z.array(ScheduleEntry),
  queues: z.record(z.string(), z.object({ waiting: z.int(), delayed: z.int(), next: z.array(Run) })),
  running: z.array(Run),
  droppedPlatforms: z.array(z.string()),
  workers: z.array(WorkerInfo),
});
export type Info = z.infer<typeof Info>;

export const RunPage = z.object({ runs: z.array(Run), next: z.string().nullable() });
export type RunPage = z.infer<typeof RunPage>;
export const ArtifactList = z.object({ artifacts: z.array(Artifact) });
export const RunIds = z.object({ runs: z.array(Run) });
export const StoredInput = z.object({ sha256: z.string(), bytes: z.int() });
export const Problem = z.object({ type: z.string(), title: z.string(), status: z.int(), code: z.string(), detail: z.string() });
export type Problem = z.infer<typeof Problem>;
