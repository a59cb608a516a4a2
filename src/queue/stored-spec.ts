/**
 * A run's spec as its record keeps it: a hundred thousand may wait, so what almost all runs say alike is left out, and what all say has a place
 * instead of a name: job ('' for none), platform, SHA-256 and bytes of the script, trigger, when it was accepted (ms), the rest if there is any.
 */
import { type RunOptions, RunSpec } from '../job/run.ts';

/** What a record means that does not say otherwise: fixed for ever, whatever a request that does not say otherwise comes to mean. */
const LEFT_OUT = {
  job: null,
  inputs: [],
  env: {},
  secrets: [],
  artifacts: [],
  timeoutMs: 3_600_000,
  graceMs: 10_000,
  retries: 0,
  retryOn: ['failed', 'signalled', 'timed-out', 'lost'],
  backoffMs: 1_000,
  backoffMaxMs: 60_000,
  priority: 'normal',
  labels: {},
  silenceMs: null,
  memoryBytes: null,
  cpus: null,
  pids: null,
  diskBytes: null,
  network: 'on',
  strictLimits: false,
} as const satisfies { [K in keyof RunOptions]: unknown } & { job: null };

const LEFT_OUT_TEXTS = new Map<string, string>(Object.entries(LEFT_OUT).map(([name, value]) => [name, JSON.stringify(value)]));

export function storedSpec({ id: _, job, platform, script, trigger, createdAt, ...options }: RunSpec): string {
  const rest = Object.entries(options).filter(([name, value]) => !isLeftOut(name, value));
  const sha256 = Buffer.from(script.sha256, 'hex').toString('base64url');
  const placed = [job ?? '', platform, sha256, script.bytes, trigger, shortMoment(createdAt)];
  return JSON.stringify(rest.length === 0 ? placed : [...placed, Object.fromEntries(rest)]);
}

function isLeftOut(name: string, value: unknown): boolean {
  const text = LEFT_OUT_TEXTS.get(name);
  return text !== undefined && text === JSON.stringify(value);
}

/** Milliseconds, unless they say less than the text. */
function shortMoment(text: string): string | number {
  const ms = Date.parse(text);
  return longMoment(ms) === text ? ms : text;
}

function longMoment(moment: unknown): unknown {
  return typeof moment === 'number' ? new Date(moment).toISOString() : moment;
}

/** The spec of the run of this id, also of a record with names instead of places, as builder 0.1.0 wrote them; throws for a text that is none. */
export function specFrom(id: string, stored: string): RunSpec {
  const found: unknown = JSON.parse(stored);
  const given = Array.isArray(found) ? namedOf(found) : (found as object);
  // Not spread into a literal: with so many names that is four times as slow, and what is made so is slow to read.
  return RunSpec.parse(Object.assign({}, LEFT_OUT, given, { id }));
}

function namedOf([job, platform, sha256, bytes, trigger, createdAt, rest = {}]: unknown[]): object {
  const script = { sha256: Buffer.from(String(sha256), 'base64url').toString('hex'), bytes };
  return { ...(rest as object), job: job === '' ? null : job, platform, script, trigger, createdAt: longMoment(createdAt) };
}
