/** Submitting the runs of one request: all of them, or none where it can be known before. */
import { type Run, type RunRecord, type RunSpec, runView } from '../job/run.ts';
import { droppedPlatforms } from '../queue/platform-sets.ts';
import type { Queues } from '../queue/queues.ts';
import { readRecords } from '../queue/records.ts';
import { submitRuns } from '../queue/submit.ts';
import { viewsOf } from '../queue/view.ts';
import { BuilderError } from '../service/errors.ts';

/** Runs that are known already, by a request that was sent twice, stay as they are. The runs, in their order. Throws `platform-dropped`. */
export async function submitAll(queues: Queues, specs: RunSpec[]): Promise<Run[]> {
  await refuseDropped(queues, specs);
  const accepted = await submitRuns(queues, specs);
  const known = specs.filter(({ id }) => !accepted.has(id)).map(({ id }) => id);
  const views = new Map((await viewsOf(queues, known)).map((run) => [run.id, run]));
  // Of what is accepted just now all is known: it waits.
  return specs.flatMap((spec) => views.get(spec.id) ?? (accepted.has(spec.id) ? [runView(recordOf(spec), 'waiting')] : []));
}

function recordOf(spec: RunSpec): RunRecord {
  return { spec, attempts: [], result: null, cancel: null };
}

/** All or none: a platform that is dropped at this very moment refuses its own runs alone. */
async function refuseDropped(queues: Queues, specs: RunSpec[]): Promise<void> {
  const dropped = new Set(await droppedPlatforms(queues));
  const refused = specs.filter(({ platform }) => dropped.has(platform));
  const records = await readRecords(
    queues.redis,
    refused.map(({ id }) => id),
  );
  const first = refused.find((_, index) => records[index] === null);
  if (first !== undefined) throw platformDropped(first.platform);
}

/** A job of several platforms runs on those that take runs; where none does it is refused. */
export async function withoutDropped(queues: Queues, specs: RunSpec[]): Promise<RunSpec[]> {
  const dropped = await droppedPlatforms(queues);
  const taken = specs.filter(({ platform }) => !dropped.includes(platform));
  if (taken.length === 0 && specs[0] !== undefined) throw platformDropped(specs[0].platform);
  return taken;
}

function platformDropped(platform: string): BuilderError {
  return new BuilderError(
    'platform-dropped',
    `expected a platform that takes runs, got ${platform}, which is dropped (builder undrop-platform ${platform})`,
  );
}
