/** The clean environment of a script: what the contract promises, the job's own variables, nothing of the worker's. */
import type { RunSpec } from '../src/job/run.ts';

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface EnvironmentOptions {
  spec: RunSpec;
  attempt: number;
  claim: string;
  home: string;
  tmp: string;
  secrets: Record<string, string>;
}

/** The entry by which every process of one attempt is found in /proc, whatever it has become since. */
export function markOf(claim: string): string {
  return `BUILDER_CLAIM=${claim}`;
}

export function scriptEnvironment(o: EnvironmentOptions): Record<string, string> {
  return {
    PATH,
    LANG: 'C.UTF-8',
    ...o.spec.env,
    ...o.secrets,
    HOME: o.home,
    TMPDIR: o.tmp,
    BUILDER_RUN_ID: o.spec.id,
    BUILDER_JOB: o.spec.job ?? '',
    BUILDER_ATTEMPT: String(o.attempt),
    BUILDER_PLATFORM: o.spec.platform,
    BUILDER_CLAIM: o.claim,
  };
}
