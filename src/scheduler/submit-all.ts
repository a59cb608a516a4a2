/** Submitting the runs of one request: all of them, or none where it can be known before. */
import type { RunSpec } from '../job/run.ts';
import { droppedPlatforms } from '../queue/platform-sets.ts';
import type { Queues } from '../queue/queues.ts';
import { readRecords } from '../queue/records.ts';
import { submitRun, submitRuns } from '../queue/submit.ts';
import { BuilderError } from '../service/errors.ts';

/** Runs that are known already, by a request that was sent twice, stay as they are. Throws `platform-dropped`. */
export async function submitAll(queues: Queues, specs: RunSpec[]): Promise<void> {
  const [first] = specs;
  if (specs.length === 1 && first !== undefined) {
    await submitRun(queues, first);
    return;
  }
  const records = await readRecords(
    queues.redis,
    specs.map(({ id }) => id),
  );
  const unknown = specs.filter((_, index) => records[index] === null);
  const dropped = await droppedPlatforms(queues);
  const refused = unknown.find(({ platform }) => dropped.includes(platform));
  if (refused !== undefined) throw platformDropped(refused.platform);
  await submitRuns(queues, unknown);
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
