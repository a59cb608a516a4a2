/** Whether an attempt that ended is followed by another by the run's own policy: pure. */
import type { Outcome } from '../src/job/outcome.ts';
import type { RunSpec } from '../src/job/run.ts';

type Policy = Pick<RunSpec, 'retries' | 'retryOn' | 'backoffMs' | 'backoffMaxMs'>;

/** How long to wait before the next attempt; null where there is none. `used` are the retries that the run has had. */
export function retryDelayMs(policy: Policy, used: number, outcome: Outcome): number | null {
  const retriable: readonly Outcome[] = policy.retryOn;
  if (used >= policy.retries || !retriable.includes(outcome)) return null;
  return Math.min(policy.backoffMaxMs, policy.backoffMs * 2 ** used);
}
