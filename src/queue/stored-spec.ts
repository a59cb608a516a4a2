/** A run's spec as its record keeps it: a hundred thousand may wait, so what almost all runs say alike is left out. */
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

export function storedSpec(spec: RunSpec): string {
  const stored: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(spec)) if (name !== 'id' && !isLeftOut(name, value)) stored[name] = value;
  return JSON.stringify(stored);
}

function isLeftOut(name: string, value: unknown): boolean {
  const text = LEFT_OUT_TEXTS.get(name);
  return text !== undefined && text === JSON.stringify(value);
}

/** The spec of the run of this id; throws for a text that is none. */
export function specFrom(id: string, stored: string): RunSpec {
  return RunSpec.parse({ ...LEFT_OUT, ...JSON.parse(stored), id });
}
