/** A run: what it is to execute (spec), what is recorded of it (record), and what people see (view). */
import { z } from 'zod';
import { InputFile, inputsConflict, LogDigest, Sha256 } from './artifact.ts';
import { limits } from './limits.ts';
import { ENV_NAME_PATTERN, NAME_PATTERN } from './names.ts';
import { OUTCOMES, type Outcome } from './outcome.ts';

export const TRIGGERS = ['schedule', 'execute', 'run', 'rerun', 'board'] as const;
export type Trigger = (typeof TRIGGERS)[number];
export const PRIORITIES = ['low', 'normal', 'high'] as const;
export type Priority = (typeof PRIORITIES)[number];
/** Outcomes that a policy may retry. */
export const RETRIABLE = ['failed', 'signalled', 'timed-out', 'lost'] as const satisfies readonly Outcome[];
export const NETWORKS = ['on', 'none'] as const;
export const RUN_STATES = ['delayed', 'waiting', 'running', 'finished'] as const;
export type RunState = (typeof RUN_STATES)[number];

export const Name = z.string().regex(NAME_PATTERN, "expected a name of a-z, 0-9, '.', '_', '-', at most 63 long");
export const Labels = z
  .record(Name, z.string().max(limits.labelValueCharsMax))
  .refine((labels) => Object.keys(labels).length <= limits.labelsMax, `expected at most ${limits.labelsMax} labels`);
export const Env = z
  .record(
    z
      .string()
      .regex(ENV_NAME_PATTERN, 'expected a variable name of letters, digits and _')
      .refine((name) => !name.startsWith('BUILDER_'), 'expected a variable that does not begin with BUILDER_, which builder sets itself'),
    z
      .string()
      .max(limits.envValueBytesMax)
      .refine((value) => !value.includes('\0'), 'expected a value without NUL'),
  )
  .refine((env) => Object.keys(env).length <= limits.envEntriesMax, `expected at most ${limits.envEntriesMax} variables`);

/** Names of secrets: a worker has `BUILDER_SECRET_<name>`, the script gets the variable `<name>`. */
export const SecretNames = z
  .array(
    z
      .string()
      .regex(ENV_NAME_PATTERN, 'expected the name of a secret: letters, digits and _')
      .max(limits.secretNameCharsMax)
      .refine((name) => !name.startsWith('BUILDER_'), 'expected the name of a secret without BUILDER_SECRET_ before it'),
  )
  .max(limits.secretsPerRunMax);

/** The options that a job, an ad-hoc run and a stored run share. Durations in milliseconds. */
export const RunOptions = z.object({
  inputs: z
    .array(InputFile)
    .max(limits.inputsPerRunMax)
    .refine((inputs) => inputsConflict(inputs) === null, { error: ({ input }) => inputsConflict(input as InputFile[]) ?? '' })
    .default([]),
  env: Env.default({}),
  secrets: SecretNames.default([]),
  /** Globs of the files to keep; empty means every file left behind that is not an unchanged input. */
  artifacts: z.array(z.string().min(1).max(limits.pathBytesMax)).max(limits.globsMax).default([]),
  timeoutMs: z.int().min(1).max(limits.timeoutMsMax).default(limits.timeoutMsDefault),
  graceMs: z.int().min(0).max(limits.graceMsMax).default(limits.graceMsDefault),
  /** How often an attempt that ended in one of `retryOn` is followed by another by itself. */
  retries: z.int().min(0).max(limits.retriesMax).default(0),
  retryOn: z.array(z.enum(RETRIABLE)).default([...RETRIABLE]),
  /** Before the first retry; doubled for each further one, up to `backoffMaxMs`. */
  backoffMs: z.int().min(0).max(limits.backoffMsMax).default(limits.backoffMsDefault),
  backoffMaxMs: z.int().min(0).max(limits.backoffMsMax).default(limits.backoffMsMaxDefault),
  priority: z.enum(PRIORITIES).default('normal'),
  labels: Labels.default({}),
  /** No output for so long ends the run as a timeout does. Here and below null is no limit. */
  silenceMs: z.int().min(1).max(limits.timeoutMsMax).nullable().default(null),
  memoryBytes: z.int().min(limits.memoryBytesMin).nullable().default(null),
  /** Cores' worth of time; 0.5 is half of one. */
  cpus: z.number().min(limits.cpusMin).max(limits.cpusMax).nullable().default(null),
  /** Processes and threads at a time, the script itself included. */
  pids: z.int().min(1).max(limits.pidsMax).nullable().default(null),
  /** What the run's folder and its TMPDIR may hold together, inputs included. */
  diskBytes: z.int().min(limits.diskBytesMin).nullable().default(null),
  /** `none`: the loopback interface alone. */
  network: z.enum(NETWORKS).default('on'),
  /** A limit that the worker cannot enforce refuses the run, where otherwise the log says so. */
  strictLimits: z.boolean().default(false),
});
export type RunOptions = z.infer<typeof RunOptions>;

export const ScriptRef = z.object({ sha256: Sha256, bytes: z.int().min(0).max(limits.scriptBytesMax) });
export type ScriptRef = z.infer<typeof ScriptRef>;

/** What a run executes; immutable once accepted, so a later change of the job or template leaves it as it was. */
export const RunSpec = RunOptions.extend({
  id: z.uuid(),
  job: Name.nullable(),
  platform: Name,
  script: ScriptRef,
  trigger: z.enum(TRIGGERS),
  createdAt: z.iso.datetime(),
});
export type RunSpec = z.infer<typeof RunSpec>;

export const Killed = z.object({ pid: z.int(), command: z.string() });
export type Killed = z.infer<typeof Killed>;

/** One try as recorded: the first half is written at the claim, the second at its end. */
export const AttemptRecord = z.object({
  number: z.int().min(1),
  claim: z.string(),
  worker: z.string(),
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime().nullable(),
  outcome: z.enum([...OUTCOMES, 'interrupted', 'superseded']).nullable(),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  killed: z.array(Killed),
});
export type AttemptRecord = z.infer<typeof AttemptRecord>;

/** The committed end of a run. `attemptsMade` is BullMQ's at the claim: a redelivery with the same adopts this result. */
export const RunResult = z.object({
  outcome: z.enum(OUTCOMES),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  /** Begins with a stable code, then a colon and words. */
  reason: z.string().nullable(),
  attempt: z.int().min(0),
  claim: z.string().nullable(),
  attemptsMade: z.int().min(0),
  finishedAt: z.iso.datetime(),
  log: LogDigest,
  artifactCount: z.int().min(0),
});
export type RunResult = z.infer<typeof RunResult>;

export const CancelRequest = z.object({ requestedAt: z.iso.datetime(), reason: z.string().nullable() });
export type CancelRequest = z.infer<typeof CancelRequest>;

export interface RunRecord {
  spec: RunSpec;
  attempts: AttemptRecord[];
  result: RunResult | null;
  cancel: CancelRequest | null;
}

/** A run as the contract's JSON shows it. */
export const Run = z.object({
  id: z.string(),
  job: z.string().nullable(),
  platform: z.string(),
  state: z.enum(RUN_STATES),
  outcome: z.enum(OUTCOMES).nullable(),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  reason: z.string().nullable(),
  attempt: z.int(),
  attempts: z.array(AttemptRecord.omit({ claim: true })),
  trigger: z.enum(TRIGGERS),
  cancelRequestedAt: z.string().nullable(),
  createdAt: z.string(),
  startedAt: z.string().nullable(),
  finishedAt: z.string().nullable(),
  worker: z.string().nullable(),
  labels: z.record(z.string(), z.string()),
  log: LogDigest,
  artifactCount: z.int(),
});
export type Run = z.infer<typeof Run>;

const NO_LOG = { lines: 0, bytes: 0, sha256: '', truncated: false, missing: 0 };

/** The view of a run, derived from its record and, while it has no result, from the state of its BullMQ job. */
export function runView(record: RunRecord, queued: Exclude<RunState, 'finished'>): Run {
  const { spec, attempts, result, cancel } = record;
  const last = attempts.at(-1);
  // BullMQ calls a job active before an attempt of it is open, and when its attempt is closed already.
  const running = result === null && queued === 'running' && last !== undefined && last.outcome === null;
  return {
    id: spec.id,
    job: spec.job,
    platform: spec.platform,
    state: result !== null ? 'finished' : queued === 'running' && !running ? 'waiting' : queued,
    outcome: result?.outcome ?? null,
    exitCode: result?.exitCode ?? null,
    signal: result?.signal ?? null,
    reason: result?.reason ?? null,
    attempt: result?.attempt ?? last?.number ?? 0,
    attempts: attempts.map(({ claim: _, ...attempt }) => attempt),
    trigger: spec.trigger,
    cancelRequestedAt: cancel?.requestedAt ?? null,
    createdAt: spec.createdAt,
    startedAt:
      result === null && !running ? null : (attempts.find((one) => one.number === (result?.attempt ?? last?.number))?.startedAt ?? null),
    finishedAt: result?.finishedAt ?? null,
    worker: result === null && !running ? null : (last?.worker ?? null),
    labels: spec.labels,
    log: result?.log ?? NO_LOG,
    artifactCount: result?.artifactCount ?? 0,
  };
}
