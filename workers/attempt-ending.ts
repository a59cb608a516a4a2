/** From how a script's process ended to the outcome of its run: pure. */
import { formatDuration } from '../src/job/duration.ts';
import type { Outcome } from '../src/job/outcome.ts';
import type { Killed, RunSpec } from '../src/job/run.ts';
import type { Executed } from './executor.ts';

export interface AttemptEnding {
  outcome: Outcome;
  exitCode: number | null;
  signal: string | null;
  reason: string | null;
  killed: Killed[];
}

export function endingOf(executed: Executed, spec: RunSpec, cancelReason: string | null): AttemptEnding {
  const { exitCode, signal, killed } = executed;
  const facts = { exitCode, signal, killed };
  switch (executed.ended) {
    case 'timed-out':
      return { ...facts, outcome: 'timed-out', reason: `timeout: ran longer than ${formatDuration(spec.timeoutMs)}` };
    case 'cancelled':
      return { ...facts, outcome: 'cancelled', reason: `cancelled: ${cancelReason ?? 'asked for'}` };
    case 'exited':
      if (signal !== null) return { ...facts, outcome: 'signalled', reason: null };
      if (exitCode === 0) return { ...facts, outcome: 'succeeded', reason: null };
      return { ...facts, outcome: 'failed', reason: null };
  }
}

/** A run that could not start: nothing of the script has run. */
export function refusal(code: string, text: string): AttemptEnding {
  return { outcome: 'refused', exitCode: null, signal: null, reason: `${code}: ${text}`, killed: [] };
}

/** What the log tells of an end that was not the script's own doing; null for nothing. */
export function endingNotes(ending: AttemptEnding, executed: Pick<Executed, 'outputHeld' | 'killed'>): string[] {
  const notes: string[] = [];
  if (ending.outcome === 'timed-out' || ending.outcome === 'cancelled') notes.push(ending.reason ?? ending.outcome);
  if (executed.outputHeld) notes.push('a process that the script left behind kept its output open; it was not waited for');
  if (executed.killed.length > 0) {
    const shown = executed.killed
      .slice(0, 10)
      .map((one) => `${one.pid} ${one.command}`)
      .join(', ');
    const more = executed.killed.length > 10 ? ` and ${executed.killed.length - 10} more` : '';
    notes.push(`killed what was left: ${shown}${more}`);
  }
  return notes;
}
