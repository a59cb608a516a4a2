/** A job as the interface shows it. */
import { readScript } from '../artifacts/script.ts';
import type { Store } from '../artifacts/store.ts';
import type { Job } from '../job/api.ts';
import type { JobDefinition } from '../job/definition.ts';
import type { ScriptRef } from '../job/run.ts';
import { nextTickOf, scheduleFields } from '../queue/definitions.ts';
import { platformsLeft } from '../queue/execute.ts';
import { ticksOfJob } from '../queue/tick-counts.ts';
import { BuilderError } from '../service/errors.ts';
import type { ServerContext } from './server-context.ts';

export async function jobView({ queues, store }: ServerContext, definition: JobDefinition): Promise<Job> {
  const { id: _, source, schedule: __, extraTickMs: ___, ...rest } = definition;
  const next = nextTickOf(definition, Date.now());
  const { counts } = await ticksOfJob(queues.redis, definition.name);
  return {
    ...rest,
    platforms: await platformsLeft(queues, definition),
    script: source.kind === 'script' ? await scriptText(store, source.script) : null,
    template: source.kind === 'template' ? source.template : null,
    params: source.kind === 'template' ? source.params : {},
    ...scheduleFields(definition),
    next: next === null ? null : new Date(next).toISOString(),
    ticks: counts,
  };
}

/** Null for one that the store has lost: the job is shown all the same. */
async function scriptText(store: Store, script: ScriptRef): Promise<string | null> {
  try {
    return (await readScript(store, script)).toString();
  } catch (cause) {
    if (cause instanceof BuilderError && cause.code === 'not-found') return null;
    throw cause;
  }
}
