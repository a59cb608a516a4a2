/** Tables of runs, workers and artifacts for people. */
import type { WorkerInfo } from '../job/api.ts';
import type { Artifact } from '../job/artifact.ts';
import type { Run } from '../job/run.ts';
import { duration, shortIds, shortMoment, table } from './table.ts';

const SHA256_CHARS_SHOWN = 12;

export function runTable(runs: Run[]): string {
  const ids = shortIds(runs.map((run) => run.id));
  return table(
    [
      { title: 'RUN' },
      { title: 'JOB' },
      { title: 'PLATFORM' },
      { title: 'STATE' },
      { title: 'EXIT', right: true },
      { title: 'CREATED' },
      { title: 'TOOK', right: true },
    ],
    runs.map((run) => [
      ids.get(run.id) ?? run.id,
      run.job,
      run.platform,
      run.outcome ?? run.state,
      run.exitCode ?? run.signal,
      shortMoment(run.createdAt),
      duration(run.startedAt, run.finishedAt),
    ]),
  );
}

export function runningTable(runs: Run[]): string {
  const ids = shortIds(runs.map((run) => run.id));
  return table(
    [{ title: 'RUN' }, { title: 'JOB' }, { title: 'PLATFORM' }, { title: 'WORKER' }, { title: 'STARTED' }],
    runs.map((run) => [ids.get(run.id) ?? run.id, run.job, run.platform, run.worker, shortMoment(run.startedAt)]),
  );
}

export function workerTable(workers: WorkerInfo[]): string {
  return table(
    [
      { title: 'WORKER' },
      { title: 'PLATFORMS' },
      { title: 'RUNNING', right: true },
      { title: 'OF', right: true },
      { title: 'SANDBOX' },
      { title: 'VERSION' },
      { title: 'LAST SEEN' },
    ],
    workers.map((one) => [
      one.name,
      one.platforms.join(' '),
      one.running,
      one.concurrency,
      one.sandbox,
      one.version,
      shortMoment(one.lastSeenAt),
    ]),
  );
}

export function artifactTable(artifacts: Artifact[]): string {
  return table(
    [{ title: 'PATH' }, { title: 'BYTES', right: true }, { title: 'MODE' }, { title: 'SHA-256' }, { title: 'NOTE' }],
    artifacts.map((one) => [
      one.path,
      one.bytes,
      one.mode.toString(8).padStart(4, '0'),
      one.sha256.slice(0, SHA256_CHARS_SHOWN),
      noteOf(one),
    ]),
  );
}

function noteOf({ input, sameAs }: Artifact): string {
  const notes = [input === null ? '' : `${input} input`, sameAs === null ? '' : `same as input ${sameAs}`];
  return notes.filter((note) => note !== '').join(', ');
}
