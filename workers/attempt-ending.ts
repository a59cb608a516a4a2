/** From how a script's process ended to the outcome of its run: pure. */
import { formatDuration } from '../src/job/duration.ts';
import { limits } from '../src/job/limits.ts';
import type { Outcome } from '../src/job/outcome.ts';
import type { Killed, RunSpec } from '../src/job/run.ts';
import { formatSize } from '../src/job/size.ts';
import type { Executed } from './executor.ts';
import type { Mask } from './masker.ts';
import { retryDelayMs } from './retry.ts';
import type { OpenAttempt } from './worker-context.ts';

export interface AttemptEnding {
  outcome: Outcome;
  exitCode: number | null;
  signal: string | null;
  reason: string | null;
  killed: Killed[];
}

/** Of an attempt that lost the run to somebody else, who may not have begun yet: it counts for nothing. */
export type SupersededEnding = Omit<AttemptEnding, 'outcome'> & { outcome: 'superseded' };

/** What is known beside how the process ended. */
export interface EndingFacts {
  cancelReason: string | null;
  /** Processes that the kernel killed at the run's own limit of memory. */
  oomKills: number;
}

export function endingOf(executed: Executed, spec: RunSpec, { cancelReason, oomKills }: EndingFacts): AttemptEnding {
  const { exitCode, signal, killed } = executed;
  const facts = { exitCode, signal, killed };
  switch (executed.ended) {
    case 'timed-out':
      return { ...facts, outcome: 'timed-out', reason: `timeout: ran longer than ${formatDuration(spec.timeoutMs)}` };
    case 'silent':
      return { ...facts, outcome: 'timed-out', reason: `silence: no output for ${formatDuration(spec.silenceMs ?? 0)}` };
    case 'cancelled':
      return { ...facts, outcome: 'cancelled', reason: `cancelled: ${cancelReason ?? 'asked for'}` };
    case 'over-disk':
      // It may have ended by itself in the very moment.
      return { ...facts, outcome: outcomeOf(executed), reason: diskReason(spec) };
    case 'exited': {
      const outcome = outcomeOf(executed);
      if (outcome === 'succeeded') return { ...facts, outcome, reason: null };
      if (oomKills > 0) return { ...facts, outcome, reason: memoryReason(spec, oomKills) };
      return { ...facts, outcome, reason: executed.diskFull ? diskReason(spec) : null };
    }
  }
}

function outcomeOf({ exitCode, signal }: Executed): 'signalled' | 'succeeded' | 'failed' {
  if (signal !== null) return 'signalled';
  return exitCode === 0 ? 'succeeded' : 'failed';
}

function memoryReason(spec: RunSpec, oomKills: number): string {
  const what = oomKills === 1 ? 'a process' : `${oomKills} processes`;
  return `memory: the kernel killed ${what} of the run at its limit of ${formatSize(spec.memoryBytes ?? 0)}`;
}

function diskReason(spec: RunSpec): string {
  return `disk: the run's folder and TMPDIR reached their limit of ${formatSize(spec.diskBytes ?? 0)}`;
}

export function supersededEnding({ exitCode, signal, killed }: Pick<Executed, 'exitCode' | 'signal' | 'killed'>): SupersededEnding {
  const reason = 'superseded: this worker was silent for too long, so the run is another attempt’s; the script was ended';
  return { outcome: 'superseded', exitCode, signal, reason, killed };
}

/** A run that could not start: nothing of the script has run. */
export function refusal(code: string, text: string): AttemptEnding {
  return { outcome: 'refused', exitCode: null, signal: null, reason: `${code}: ${text}`, killed: [] };
}

/** What the script or a person put into it may hold a secret; a command that was cut, the beginning of one. */
export function maskedEnding<E extends AttemptEnding | SupersededEnding>(ending: E, mask: Mask): E {
  const isCut = (command: string): boolean => Buffer.byteLength(command) >= limits.killedCommandCharsMax - CUT_CHARS;
  const killed = ending.killed.map(({ pid, command }) => ({ pid, command: mask.text(command, { cut: isCut(command) }) }));
  return { ...ending, killed, reason: ending.reason === null ? null : mask.text(ending.reason) };
}

/** A command is cut by bytes under one sandbox: what is left of its last character may be lost. */
const CUT_CHARS = 3;

/** What the log tells of an end that was not the script's own doing, and of what follows. */
export function endingNotes(
  ending: AttemptEnding | SupersededEnding,
  executed: Pick<Executed, 'outputHeld' | 'killed'>,
  o: Pick<OpenAttempt, 'spec' | 'retries'> & EndingFacts,
): string[] {
  const { spec, retries } = o;
  const notes: string[] = [];
  if (ending.reason !== null) notes.push(ending.reason);
  // A script may survive the death of one of its processes.
  if (o.oomKills > 0 && !ending.reason?.startsWith('memory:')) notes.push(memoryReason(spec, o.oomKills));
  if (executed.outputHeld) {
    const fate = executed.killed.length > 0 ? 'it was not waited for' : 'it was not found, and may live on';
    notes.push(`a process that the script left behind kept its output open; ${fate}`);
  }
  if (executed.killed.length > 0) {
    const shown = executed.killed
      .slice(0, 10)
      .map((one) => `${one.pid} ${one.command}`)
      .join(', ');
    const more = executed.killed.length > 10 ? ` and ${executed.killed.length - 10} more` : '';
    notes.push(`killed what was left: ${shown}${more}`);
  }
  const delayMs = ending.outcome === 'superseded' ? null : retryDelayMs(spec, retries, ending.outcome);
  if (delayMs !== null) {
    notes.push(`${ending.outcome}; retry ${retries + 1} of ${spec.retries} in ${formatDuration(delayMs)}`);
  }
  return notes;
}
