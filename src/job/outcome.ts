/** How a run ended, and what a follower's exit code is then. */
import { constants } from 'node:os';

export const OUTCOMES = ['succeeded', 'failed', 'signalled', 'timed-out', 'cancelled', 'lost', 'refused'] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface Ending {
  outcome: Outcome;
  exitCode: number | null;
  signal: string | null;
}

/** The exit code of `run`, `execute --follow`, `observe` for a run that ended so (docs: the contract's exit codes). */
export function exitCodeOf(ending: Ending): number {
  switch (ending.outcome) {
    case 'succeeded':
      return 0;
    case 'failed':
      return ending.exitCode ?? 1;
    case 'signalled':
      return 128 + signalNumber(ending.signal);
    case 'timed-out':
      return 124;
    case 'cancelled':
      return 130;
    case 'lost':
    case 'refused':
      return 125;
  }
}

/** Linux numbers real-time signals from 34; shells and Node name them only by number, as `SIG35`. */
function signalNumber(signal: string | null): number {
  const numbers: Record<string, number> = constants.signals;
  return numbers[signal ?? ''] ?? Number(/^SIG(\d+)$/.exec(signal ?? '')?.[1] ?? 0);
}
