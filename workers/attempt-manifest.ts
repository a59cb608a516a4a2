/** The manifest of an attempt, from what is known of the run and of its end: pure. */
import type { Artifact, LogDigest, Manifest } from '../src/job/artifact.ts';
import type { RunSpec } from '../src/job/run.ts';
import type { OpenAttempt } from './worker-context.ts';

export interface AttemptFacts {
  spec: RunSpec;
  attempt: number;
  claim: string;
  worker: string;
  startedAt: string;
}

/** `worker`: its name. */
export function attemptFacts({ spec, attempt, claim, startedAt }: OpenAttempt, worker: string): AttemptFacts {
  return { spec, attempt, claim, worker, startedAt };
}

export interface Stored {
  ending: Pick<Manifest, 'outcome' | 'exitCode' | 'signal' | 'reason'>;
  artifacts: Artifact[];
  log: LogDigest;
}

export function attemptManifest({ spec, attempt, claim, worker, startedAt }: AttemptFacts, o: Stored): Manifest {
  const { outcome, exitCode, signal, reason } = o.ending;
  return {
    version: 1,
    run: spec.id,
    attempt,
    claim,
    worker,
    job: spec.job,
    platform: spec.platform,
    createdAt: spec.createdAt,
    startedAt,
    finishedAt: new Date().toISOString(),
    outcome,
    exitCode,
    signal,
    reason,
    script: spec.script,
    inputs: spec.inputs,
    log: o.log,
    artifacts: o.artifacts,
  };
}
