/** The runs that this worker has now: how they are cancelled and which attempt they are. */
import type { RunRecord } from '../src/job/run.ts';

export interface RunningRun {
  attempt: number;
  claim: string;
  record: RunRecord;
  cancel: AbortController;
  /** Its script has ended; what it left is being stored. */
  executed: boolean;
}

export interface RunningRuns {
  add(id: string, run: RunningRun): void;
  /** Forgets an attempt; one that has come in its place stays. */
  remove(id: string, claim: string): void;
  get(id: string): RunningRun | null;
  ids(): string[];
  /** How many of them have a script that has not ended. */
  executing(): number;
  /** Ends the script of a run; a run that is not here is somebody else's. */
  cancel(id: string): void;
}

export function createRunningRuns(): RunningRuns {
  const runs = new Map<string, RunningRun>();
  return {
    add: (id, run) => void runs.set(id, run),
    remove: (id, claim) => {
      if (runs.get(id)?.claim === claim) runs.delete(id);
    },
    get: (id) => runs.get(id) ?? null,
    ids: () => [...runs.keys()],
    executing: () => [...runs.values()].filter(({ executed }) => !executed).length,
    cancel: (id) => runs.get(id)?.cancel.abort('cancelled'),
  };
}
