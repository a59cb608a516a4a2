/** A job as the interface shows it. */
import { readScript } from '../artifacts/script.ts';
import type { Job } from '../job/api.ts';
import type { JobDefinition } from '../job/definition.ts';
import { nextTickOf, scheduleFields } from '../queue/definitions.ts';
import { platformsOfJob } from '../queue/execute.ts';
import { BuilderError } from '../service/errors.ts';
import type { ServerContext } from './server-context.ts';

export async function jobView({ queues, store }: ServerContext, definition: JobDefinition): Promise<Job> {
  const { id: _, source, schedule: __, extraTickMs: ___, ...rest } = definition;
  const next = nextTickOf(definition, Date.now());
  return {
    ...rest,
    platforms: await platformsOfJob(queues, definition).catch(nothingWhenGone),
    script: source.kind === 'script' ? (await readScript(store, source.script)).toString() : null,
    template: source.kind === 'template' ? source.template : null,
    params: source.kind === 'template' ? source.params : {},
    ...scheduleFields(definition),
    next: next === null ? null : new Date(next).toISOString(),
  };
}

/** A job whose template was removed is shown all the same. */
function nothingWhenGone(cause: unknown): string[] {
  if (cause instanceof BuilderError && cause.code === 'not-found') return [];
  throw cause;
}
