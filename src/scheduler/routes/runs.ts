/** Runs: submitting, listing, showing, cancelling, running again. */
import { createHash } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { Cancel, SubmitRun } from '../../job/api.ts';
import { limits } from '../../job/limits.ts';
import { newRunId } from '../../job/names.ts';
import { OUTCOMES } from '../../job/outcome.ts';
import { Name, type Run, RunSpec } from '../../job/run.ts';
import { requestCancel } from '../../queue/cancel.ts';
import { readRecord } from '../../queue/records.ts';
import { submitRun, submitRuns } from '../../queue/submit.ts';
import { getRun, listRuns, resolveRunId, viewsOf } from '../../queue/view.ts';
import { keys } from '../../redis/keys.ts';
import { BuilderError } from '../../service/errors.ts';
import { checkInputs } from '../known-inputs.ts';
import { parse } from '../parse.ts';
import type { ServerContext } from '../server-context.ts';

const Batch = z.array(SubmitRun).min(1, 'expected one run at least').max(limits.runsPerRequestMax);
const ListQuery = z.object({
  job: Name.optional(),
  platform: Name.optional(),
  outcome: z.enum(OUTCOMES).optional(),
  limit: z.coerce.number().int().min(1).max(limits.pageRunsMax).default(limits.pageRunsDefault),
  cursor: z.string().max(100).optional(),
});
const IDEMPOTENCY_KEY_CHARS_MAX = 255;

type ById = { Params: { id: string } };

export function runRoutes(app: FastifyInstance, context: ServerContext): void {
  const { queues } = context;
  app.post('/runs', async (request, reply) => {
    const many = Array.isArray(request.body);
    const wanted = many ? parse(Batch, request.body) : [parse(SubmitRun, request.body)];
    await checkInputs(context, uniqueInputs(wanted));
    const { tokenId } = await context.access.demand(request, 'submit');
    const ids = await idsFor(context, { key: request.headers['idempotency-key'], tokenId, wanted });
    const specs = await Promise.all(wanted.map((one, index) => specOf(context, one, ids[index] ?? newRunId())));
    if (specs.length === 1 && specs[0] !== undefined) await submitRun(queues, specs[0]);
    else await submitRuns(queues, specs);
    const runs = await viewsOf(queues, ids);
    return reply.status(201).send(many ? { runs } : runs[0]);
  });
  app.get('/runs', (request) => listRuns(queues, parse(ListQuery, request.query)));
  app.get<ById>('/runs/:id', async (request) => getRun(queues, await resolveRunId(queues, request.params.id)));
  app.post<ById>('/runs/:id/cancel', async (request) => {
    const { reason } = parse(Cancel, request.body);
    return requestCancel(queues, await resolveRunId(queues, request.params.id), reason ?? null);
  });
  app.post<ById>('/runs/:id/rerun', async (request, reply) =>
    reply.status(201).send(await rerun(context, await resolveRunId(queues, request.params.id))),
  );
}

async function specOf(context: ServerContext, { script, ...options }: SubmitRun, id: string): Promise<RunSpec> {
  return { ...options, id, job: null, script: await context.storeScript(script), trigger: 'run', createdAt: new Date().toISOString() };
}

/** The same again: script, inputs and options as they were, whatever the job is by now. */
async function rerun({ queues, store }: ServerContext, id: string): Promise<Run> {
  const record = await readRecord(queues.redis, id);
  if (record === null) throw new BuilderError('not-found', `no such run: ${id}`);
  const spec = RunSpec.parse({ ...record.spec, id: newRunId(), trigger: 'rerun', createdAt: new Date().toISOString() });
  if ((await store.statBlob(spec.script.sha256)) === null)
    throw new BuilderError('not-found', `expected the script of ${id} in the store, got nothing`);
  await submitRun(queues, spec);
  return getRun(queues, spec.id);
}

/** Fresh ids; under an `Idempotency-Key` those that the first request with it took. */
async function idsFor(
  context: ServerContext,
  o: { key: string | string[] | undefined; tokenId: string; wanted: SubmitRun[] },
): Promise<string[]> {
  const fresh = o.wanted.map(newRunId);
  if (o.key === undefined) return fresh;
  if (typeof o.key !== 'string' || o.key === '' || o.key.length > IDEMPOTENCY_KEY_CHARS_MAX) {
    throw new BuilderError('invalid-value', `expected one Idempotency-Key of at most ${IDEMPOTENCY_KEY_CHARS_MAX} characters`);
  }
  const { redis } = context.queues;
  const body = createHash('sha256').update(JSON.stringify(o.wanted)).digest('hex');
  const key = keys.idempotency(o.tokenId, o.key);
  const taken = await redis.set(key, JSON.stringify({ body, ids: fresh }), 'PX', limits.idempotencyTtlMs, 'NX', 'GET');
  if (taken === null) return fresh;
  const known = JSON.parse(taken) as { body: string; ids: string[] };
  if (known.body !== body) throw new BuilderError('invalid-value', 'expected the same body under the same Idempotency-Key, got another');
  return known.ids;
}

function uniqueInputs(wanted: SubmitRun[]): SubmitRun['inputs'] {
  return [...new Map(wanted.flatMap(({ inputs }) => inputs).map((input) => [input.sha256, input])).values()];
}
