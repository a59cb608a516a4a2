/** The runs that this worker executes now: how they are cancelled and which attempt they are. */
import type { RunRecord } from '../src/job/run.ts';

export interface RunningRun {
  attempt: number;
  claim: string;
  record: RunRecord;
  cancel: AbortController;
}

export interface RunningRuns {
  add(id: string, run: RunningRun): void;
  /** Forgets an attempt; one that has come in its place stays. */
  remove(id: string, claim: string): void;
  get(id: string): RunningRun | null;
  ids(): string[];
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
    cancel: (id) => runs.get(id)?.cancel.abort('cancelled'),
  };
}
