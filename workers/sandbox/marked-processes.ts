/** Ends what is left of a run whose sandbox or worker is gone: what has its mark in the environment, again and again until nothing has. */
import { setTimeout as delay } from 'node:timers/promises';
import { limits } from '../../src/job/limits.ts';
import { BuilderError } from '../../src/service/errors.ts';
import { type Process, processesMarked, readProcesses } from './process-table.ts';

/** How often a look is repeated because a process was just about to become another program. */
const UNSURE_LOOKS_MAX = 5;
const UNSURE_PAUSE_MS = 2;

/** Throws BuilderError `internal` for what cannot be killed. */
export async function endMarked(mark: string): Promise<void> {
  const deadlineMs = performance.now() + limits.sweepMsMax;
  for (let left = await look(mark); left.length > 0; left = await look(mark)) {
    if (performance.now() > deadlineMs) {
      throw new BuilderError('internal', `expected every process of the run to die, got ${left.length} that live, first ${left[0]?.pid}`);
    }
    for (const pid of freeze(mark, left, deadlineMs)) send(pid, 'SIGKILL');
    await delay(UNSURE_PAUSE_MS);
  }
}

async function look(mark: string): Promise<Process[]> {
  for (let looks = 1; ; looks += 1) {
    const { found, unsure } = processesMarked(mark, readProcesses(), stop);
    if (found.length > 0 || !unsure || looks === UNSURE_LOOKS_MAX) return found;
    await delay(UNSURE_PAUSE_MS);
  }
}

/** Stops everything first, again and again until nothing new appears, so nothing forks away from the kill. */
function freeze(mark: string, first: readonly Process[], deadlineMs: number): Set<number> {
  const frozen = new Set<number>();
  let fresh = first;
  while (fresh.length > 0 && performance.now() < deadlineMs) {
    for (const one of fresh) {
      stop(one);
      frozen.add(one.pid);
    }
    fresh = processesMarked(mark, readProcesses(), stop).found.filter(({ pid }) => !frozen.has(pid));
  }
  return frozen;
}

function stop(one: Process): void {
  send(one.pid, 'SIGSTOP');
}

/** What has just ended needs no signal; what belongs to another user is found again by the sweep, which is bounded. */
function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // ESRCH or EPERM.
  }
}
