/** Runs: submitting, listing, showing, cancelling, running again. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { Cancel, SubmitRun } from '../../job/api.ts';
import { limits } from '../../job/limits.ts';
import { newRunId } from '../../job/names.ts';
import { OUTCOMES } from '../../job/outcome.ts';
import { Name, type Run, RunSpec, type ScriptRef } from '../../job/run.ts';
import { requestCancel } from '../../queue/cancel.ts';
import { readRecord } from '../../queue/records.ts';
import { listRuns } from '../../queue/run-list.ts';
import { submitRun } from '../../queue/submit.ts';
import { getRun, resolveRunId } from '../../queue/view.ts';
import { getRunWhy } from '../../queue/why.ts';
import { eachAtOnce } from '../../service/each.ts';
import { BuilderError } from '../../service/errors.ts';
import { reserveId, reserveIds } from '../idempotency.ts';
import { checkInputs } from '../known-inputs.ts';
import { parse } from '../parse.ts';
import type { ServerContext } from '../server-context.ts';
import { submitAll } from '../submit-all.ts';

const Batch = z.array(SubmitRun).min(1, 'expected one run at least').max(limits.runsPerRequestMax);
const ListQuery = z.strictObject({
  job: Name.optional(),
  platform: Name.optional(),
  outcome: z.enum(OUTCOMES).optional(),
  limit: z.coerce.number().int().min(1).max(limits.pageRunsMax).default(limits.pageRunsDefault),
  cursor: z.string().max(100).optional(),
});

type ById = { Params: { id: string } };

export function runRoutes(app: FastifyInstance, context: ServerContext): void {
  const { queues } = context;
  app.post('/runs', async (request, reply) => {
    const many = Array.isArray(request.body);
    const wanted = many ? parse(Batch, request.body) : [parse(SubmitRun, request.body)];
    await checkInputs(context, uniqueInputs(wanted));
    const reserved = await reserveIds(context, request, wanted, wanted.length);
    const refs = await storeScripts(context, wanted);
    const createdAt = new Date().toISOString();
    const specs = wanted.map(({ script, ...options }, index): RunSpec => {
      const id = reserved[index] ?? newRunId();
      return { ...options, id, job: null, script: refs.get(script) as ScriptRef, trigger: 'run', createdAt };
    });
    const runs = await submitAll(queues, specs);
    return reply.status(201).send(many ? { runs } : runs[0]);
  });
  app.get('/runs', (request) => listRuns(queues, parse(ListQuery, request.query)));
  app.get<ById>('/runs/:id', async (request) => getRun(queues, await resolveRunId(queues, request.params.id)));
  app.get<ById>('/runs/:id/why', async (request) => getRunWhy(queues, await resolveRunId(queues, request.params.id)));
  app.post<ById>('/runs/:id/cancel', async (request) => {
    const { reason } = parse(Cancel, request.body);
    return requestCancel(queues, await resolveRunId(queues, request.params.id), reason ?? null);
  });
  app.post<ById>('/runs/:id/rerun', async (request, reply) =>
    reply.status(201).send(await rerun(context, request, await resolveRunId(queues, request.params.id))),
  );
}

/** Each text once: the runs of one request often have the same script. */
async function storeScripts(context: ServerContext, wanted: SubmitRun[]): Promise<Map<string, ScriptRef>> {
  const texts = [...new Set(wanted.map(({ script }) => script))];
  const refs = await eachAtOnce(texts, limits.filesAtOnce, (text) => context.storeScript(text));
  return new Map(texts.map((text, index) => [text, refs[index] as ScriptRef]));
}

/** The same again: script, inputs and options as they were, whatever the job is by now. */
async function rerun(context: ServerContext, request: FastifyRequest, id: string): Promise<Run> {
  const { queues, store } = context;
  const record = await readRecord(queues.redis, id);
  if (record === null) throw new BuilderError('not-found', `no such run: ${id}`);
  const reserved = await reserveId(context, request, { rerun: id });
  const spec = RunSpec.parse({ ...record.spec, id: reserved, trigger: 'rerun', createdAt: new Date().toISOString() });
  if ((await store.statBlob(spec.script.sha256)) === null)
    throw new BuilderError('not-found', `expected the script of ${id} in the store, got nothing`);
  await submitRun(queues, spec);
  return getRun(queues, spec.id);
}

function uniqueInputs(wanted: SubmitRun[]): SubmitRun['inputs'] {
  return [...new Map(wanted.flatMap(({ inputs }) => inputs).map((input) => [input.sha256, input])).values()];
}
