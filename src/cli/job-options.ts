/** The options that a job and an ad-hoc run share, from flags to the body of a request. */
import { parseDuration } from '../job/duration.ts';
import { limits } from '../job/limits.ts';
import { checkName } from '../job/names.ts';
import { NETWORKS, PRIORITIES, type RunOptions } from '../job/run.ts';
import { parseSize } from '../job/size.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { describeIssues, wordsFor } from '../service/zod-message.ts';
import type { Client } from './client.ts';
import type { Options, Session, Values } from './command.ts';
import { collectInputs } from './inputs.ts';
import { uploadInputs } from './upload.ts';

export const JOB_OPTIONS = {
  input: { kind: 'list', describe: 'PATH or PATH=DEST: file or folder to place in the run (parted at the last =)', complete: 'files' },
  env: { kind: 'list', describe: 'K=V: variable of the script' },
  secret: {
    kind: 'list',
    describe: "NAME: secret of the worker (its BUILDER_SECRET_NAME) as the script's variable NAME; masked in the log",
  },
  artifact: { kind: 'list', describe: 'GLOB: files to keep (default: all but unchanged inputs)' },
  timeout: { kind: 'text', describe: 'Duration after which the script is ended (default 1h)' },
  grace: { kind: 'text', describe: 'Duration between SIGTERM and SIGKILL (default 10s)' },
  retries: { kind: 'text', describe: 'How often to try again by itself (default 0)' },
  'retry-on': { kind: 'text', describe: 'OUTCOME,…: what to retry (default failed,signalled,timed-out,lost)' },
  backoff: { kind: 'text', describe: 'D or D..D: pause before a retry, doubled up to the second (default 1s..1m)' },
  priority: { kind: 'text', describe: 'low, normal or high (default normal)', choices: PRIORITIES },
  label: { kind: 'list', describe: 'K=V: label to find runs by' },
  silence: { kind: 'text', describe: 'Duration without output after which the script is ended' },
  memory: { kind: 'text', describe: 'SIZE (512M, 2G) that all its processes may use together' },
  cpus: { kind: 'text', describe: 'Cores that they may use, such as 2 or 0.5' },
  pids: { kind: 'text', describe: 'Processes and threads at a time' },
  disk: { kind: 'text', describe: 'SIZE that its folder and TMPDIR may grow to' },
  network: { kind: 'text', describe: 'none: no network but its own loopback (default on)', choices: NETWORKS },
  'strict-limits': { kind: 'flag', describe: 'Refuse the run where a limit cannot be enforced (default: say so in the log)' },
} as const satisfies Options;
export type JobOptionValues = Values<Record<never, never>, typeof JOB_OPTIONS>;

/** All but the inputs, which wait until everything else has been found right. */
export function readJobOptions(args: JobOptionValues): Record<string, unknown> {
  return {
    env: readPairs('env', args.env),
    secrets: args.secret,
    artifacts: args.artifact,
    labels: readPairs('label', args.label),
    ...given('timeoutMs', duration('timeout', args.timeout)),
    ...given('graceMs', duration('grace', args.grace)),
    ...given('retries', wholeNumber('retries', args.retries, { least: 0, most: limits.retriesMax })),
    ...given(
      'retryOn',
      args['retry-on']?.split(',').map((outcome) => outcome.trim()),
    ),
    ...backoff(args.backoff),
    ...given('priority', args.priority),
    ...given('silenceMs', duration('silence', args.silence)),
    ...given('memoryBytes', size('memory', args.memory)),
    ...given('cpus', coresOf(args.cpus)),
    ...given('pids', wholeNumber('pids', args.pids, { least: 1, most: limits.pidsMax })),
    ...given('diskBytes', size('disk', args.disk)),
    ...given('network', args.network),
    ...(args['strict-limits'] ? { strictLimits: true } : {}),
  };
}

/** Looks up the files and sends them: nothing is sent unless all can be read. */
export async function sendInputs(specs: string[], session: Session, client: Client): Promise<RunOptions['inputs']> {
  const inputs = await collectInputs(specs, { cwd: session.io.cwd, warn: session.output.say });
  return uploadInputs(client, inputs);
}

/** `K=V` texts as an object; throws `usage` for a text without `=` and for a key given twice. */
export function readPairs(flag: string, texts: string[]): Record<string, string> {
  const pairs = new Map<string, string>();
  for (const text of texts) {
    const at = text.indexOf('=');
    if (at <= 0) throw new BuilderError('usage', `expected --${flag} K=V, got ${JSON.stringify(at < 0 ? text : '=…')}`);
    const key = text.slice(0, at);
    if (pairs.has(key)) throw new BuilderError('usage', `expected --${flag} ${key} once, got it twice`);
    pairs.set(key, text.slice(at + 1));
  }
  return Object.fromEntries(pairs);
}

interface Schema<T> {
  safeParse(
    value: unknown,
    params: { error: typeof wordsFor },
  ): { success: true; data: T } | { success: false; error: { issues: { path: PropertyKey[]; message: string }[] } };
}

/** The body of a request as its schema has it, so that a refused value is known before anything is sent. */
export function checkBody<T>(schema: Schema<T>, body: unknown): T {
  const result = schema.safeParse(body, { error: wordsFor });
  if (result.success) return result.data;
  throw new BuilderError('invalid-value', describeIssues(result.error.issues));
}

/** A whole number given to a flag; throws `usage` outside the bounds. */
export function wholeNumber(flag: string, text: string | undefined, bounds: { least: number; most: number }): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= bounds.least && value <= bounds.most) return value;
  throw new BuilderError('usage', `expected --${flag} of ${bounds.least} to ${bounds.most}, got ${JSON.stringify(text)}`);
}

export const ATTEMPT = {
  attempt: { kind: 'text', describe: 'Of attempt N, also one that does not count (builder show lists them)' },
} as const;

export function attemptOf(args: { attempt: string | undefined }): number | undefined {
  return wholeNumber('attempt', args.attempt, { least: 1, most: Number.MAX_SAFE_INTEGER });
}

/** `{name: value}`, or nothing where the value was not given. */
export function given<K extends string, V>(name: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [name]: value } as Partial<Record<K, V>>);
}

/** Names are looked at here, because a path may not hold every text. */
export function checkJobName(name: string): string {
  return checkName('job', name);
}

/** `2s` waits so long before each retry; `2s..1m` doubles it up to a minute. */
function backoff(text: string | undefined): { backoffMs?: number; backoffMaxMs?: number } {
  if (text === undefined) return {};
  const [first, most, ...rest] = text.split('..');
  const backoffMs = duration('backoff', first) ?? 0;
  const backoffMaxMs = duration('backoff', most ?? first) ?? 0;
  if (rest.length > 0 || backoffMaxMs < backoffMs)
    throw new BuilderError('usage', `expected --backoff D or D..D, the shorter first, got ${JSON.stringify(text)}`);
  return { backoffMs, backoffMaxMs };
}

function coresOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= limits.cpusMin && value <= limits.cpusMax) return value;
  throw new BuilderError('usage', `expected --cpus of ${limits.cpusMin} to ${limits.cpusMax}, got ${JSON.stringify(text)}`);
}

function size(flag: string, text: string | undefined): number | undefined {
  return parsed(flag, text, parseSize);
}

function duration(flag: string, text: string | undefined): number | undefined {
  return parsed(flag, text, parseDuration);
}

function parsed(flag: string, text: string | undefined, parse: (text: string) => number): number | undefined {
  if (text === undefined) return undefined;
  try {
    return parse(text);
  } catch (cause) {
    throw new BuilderError('invalid-value', `--${flag}: ${oneLine(cause)}`, { cause });
  }
}
