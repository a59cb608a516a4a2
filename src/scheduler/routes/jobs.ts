/** Jobs: defining, listing, removing, executing, moving in time. */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { Execute, PutJob, Reschedule } from '../../job/api.ts';
import { JobDefinition } from '../../job/definition.ts';
import { partRunId } from '../../job/derived-ids.ts';
import { limits } from '../../job/limits.ts';
import { checkName, newRunId } from '../../job/names.ts';
import { parseMoment } from '../../job/schedule.ts';
import { parametersOf } from '../../job/template.ts';
import { getJob, listJobs, putJob, removeJob, rescheduleJob } from '../../queue/definitions.ts';
import { specsOfJob } from '../../queue/execute.ts';
import { getTemplate } from '../../queue/templates.ts';
import { getJobWhy } from '../../queue/why.ts';
import { eachAtOnce } from '../../service/each.ts';
import { BuilderError } from '../../service/errors.ts';
import { reserveId } from '../idempotency.ts';
import { scheduleOf } from '../job-schedule.ts';
import { jobView } from '../job-view.ts';
import { checkInputs } from '../known-inputs.ts';
import { checked, parse } from '../parse.ts';
import type { ServerContext } from '../server-context.ts';
import { submitAll, withoutDropped } from '../submit-all.ts';

type Named = { Params: { name: string } };

export function jobRoutes(app: FastifyInstance, context: ServerContext): void {
  const { queues } = context;
  app.get('/jobs', async () => ({ jobs: await eachAtOnce(await listJobs(queues), limits.filesAtOnce, (job) => jobView(context, job)) }));
  app.get<Named>('/jobs/:name', async (request) => jobView(context, await existing(context, request.params.name)));
  app.get<Named>('/jobs/:name/why', async (request) => getJobWhy(queues, await existing(context, request.params.name)));
  app.put<Named>('/jobs/:name', async (request, reply) => {
    const name = checkName('job', request.params.name);
    const wanted = parse(PutJob, request.body);
    const onlyNew = request.headers['if-none-match'] === '*';
    const known = await getJob(queues, name);
    if (known !== null && onlyNew) throw inUse(name);
    const definition = await definitionOf(context, { name, wanted, known });
    await putJob(queues, definition, { onlyNew });
    return reply.status(known === null ? 201 : 200).send(await jobView(context, definition));
  });
  app.delete<Named>('/jobs/:name', async (request, reply) => {
    if (!(await removeJob(queues, request.params.name))) throw noSuchJob(request.params.name);
    return reply.status(204).send();
  });
  app.post<Named>('/jobs/:name/execute', async (request, reply) => {
    const { platform } = parse(Execute, request.body);
    const { name } = request.params;
    const definition = await existing(context, name);
    const reserved = await reserveId(context, request, { execute: name, platform });
    const idOf = (one: string): string => partRunId(reserved, one);
    const wanted = await specsOfJob(queues, context.storeScript, { definition, trigger: 'execute', platform, idOf });
    const specs = await withoutDropped(queues, wanted);
    return reply.status(201).send({ runs: await submitAll(queues, specs) });
  });
  app.post<Named>('/jobs/:name/reschedule', async (request) => {
    const { next, period } = parse(Reschedule, request.body);
    return jobView(
      context,
      await rescheduleJob(
        queues,
        request.params.name,
        checked(() => parseMoment(next)),
        period,
      ),
    );
  });
}

interface Wanted {
  name: string;
  wanted: PutJob;
  known: JobDefinition | null;
}

/** A job keeps the id and the time of its first definition, and its anchor unless the schedule is another one. */
async function definitionOf(context: ServerContext, { name, wanted, known }: Wanted): Promise<JobDefinition> {
  const { platform, script, template, params, period, cron, tz, every, at, ...options } = wanted;
  await checkInputs(context, options.inputs);
  const now = new Date();
  const timing = scheduleOf({ period, cron, tz, every, at }, known, now.getTime());
  const definition = JobDefinition.parse({
    ...options,
    id: known?.id ?? randomUUID(),
    name,
    source: await sourceOf(context, { platform, script, template, params }),
    ...timing,
    paused: known?.paused ?? false,
    createdAt: known?.createdAt ?? now.toISOString(),
    updatedAt: now.toISOString(),
  });
  // A template or parameter that is missing is told now, not at the first tick.
  const specs = await specsOfJob(context.queues, context.storeScript, { definition, trigger: 'schedule', idOf: newRunId });
  await checkParams(context, template, params ?? {});
  if (specs.length === 0) throw new BuilderError('invalid-value', `expected a template with a script, got ${template}`);
  return definition;
}

/** A parameter that no script of the template has is a misspelt one. */
async function checkParams({ queues }: ServerContext, template: string | undefined, params: Record<string, string>): Promise<void> {
  const found = template === undefined ? null : await getTemplate(queues, template);
  const known = new Set(Object.values(found?.scripts ?? {}).flatMap(parametersOf));
  const unknown = Object.keys(params).find((name) => !known.has(name));
  if (found !== null && unknown !== undefined) {
    throw new BuilderError(
      'invalid-value',
      `expected a parameter of the template ${template} (${[...known].join(', ') || 'it has none'}), got ${unknown}`,
    );
  }
}

async function sourceOf(
  context: ServerContext,
  { platform, script, template, params }: Pick<PutJob, 'platform' | 'script' | 'template' | 'params'>,
): Promise<object> {
  if (template !== undefined) {
    if (script !== undefined || platform !== undefined)
      throw new BuilderError('invalid-value', 'expected a script and its platform, or a template, got both');
    return { kind: 'template', template, params: params ?? {} };
  }
  if (script === undefined || platform === undefined)
    throw new BuilderError('invalid-value', 'expected a script and its platform, or a template, got neither');
  if (params !== undefined) throw new BuilderError('invalid-value', 'expected params with a template alone');
  return { kind: 'script', platform, script: await context.storeScript(script) };
}

async function existing({ queues }: ServerContext, name: string): Promise<JobDefinition> {
  const definition = await getJob(queues, name);
  if (definition === null) throw noSuchJob(name);
  return definition;
}

function noSuchJob(name: string): BuilderError {
  return new BuilderError('not-found', `no such job: ${name}`);
}

function inUse(name: string): BuilderError {
  return new BuilderError('name-in-use', `expected a name that is not in use, got ${name} (--replace changes the job)`);
}
