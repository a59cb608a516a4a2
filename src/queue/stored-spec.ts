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

const ALIKE = new Map(Object.entries(LEFT_OUT).map(([name, value]) => [name, JSON.stringify(value)]));

export function storedSpec(spec: RunSpec): string {
  const { id: _, ...kept } = spec;
  return JSON.stringify(Object.fromEntries(Object.entries(kept).filter(([name, value]) => ALIKE.get(name) !== JSON.stringify(value))));
}

/** The spec of the run of this id; throws for a text that is none. */
export function specFrom(id: string, stored: string): RunSpec {
  return RunSpec.parse({ ...LEFT_OUT, ...JSON.parse(stored), id });
}
