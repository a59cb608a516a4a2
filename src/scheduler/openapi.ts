/** The OpenAPI document: one line per operation, bodies from the schemas of src/job. */
import { z } from 'zod';
import * as api from '../job/api.ts';
import { JobWhy } from '../job/job-why.ts';
import { LogEntry } from '../job/log-entry.ts';
import { Run } from '../job/run.ts';
import { RunWhy } from '../job/run-why.ts';
import { version } from '../service/version.ts';

type Method = 'get' | 'put' | 'post' | 'delete' | 'head';

interface Operation {
  summary: string;
  scope: api.Scope | null;
  body?: z.ZodType;
  answer?: z.ZodType;
  /** Answers with bytes as they are, too. */
  bytes?: true;
  status?: number;
  query?: string[];
}

const JobList = z.object({ jobs: z.array(api.Job) });
const TemplateShape = z.object({ name: z.string(), scripts: z.record(z.string(), z.string()) });

const OPERATIONS: Record<string, Partial<Record<Method, Operation>>> = {
  '/api/v1/info': { get: { summary: 'Schedule, queues, running, dropped platforms, workers', scope: 'read', answer: api.Info } },
  '/api/v1/jobs': { get: { summary: 'Every job', scope: 'read', answer: JobList } },
  '/api/v1/jobs/{name}': {
    get: { summary: 'One job', scope: 'read', answer: api.Job },
    put: {
      summary: 'Define a job; `If-None-Match: *` refuses a used name',
      scope: 'submit',
      body: api.PutJob,
      answer: api.Job,
      status: 201,
    },
    delete: { summary: 'Remove a job; its runs stay', scope: 'submit', status: 204 },
  },
  '/api/v1/jobs/{name}/why': { get: { summary: 'Why a job has not run, or will not', scope: 'read', answer: JobWhy } },
  '/api/v1/jobs/{name}/execute': {
    post: { summary: 'Run a job now', scope: 'submit', body: api.Execute, answer: api.RunIds, status: 201 },
  },
  '/api/v1/jobs/{name}/reschedule': {
    post: { summary: 'Say when a job is due next', scope: 'submit', body: api.Reschedule, answer: api.Job },
  },
  '/api/v1/runs': {
    get: { summary: 'Runs, newest first', scope: 'read', answer: api.RunPage, query: ['job', 'platform', 'outcome', 'limit', 'cursor'] },
    post: {
      summary: 'Submit a run, or an array of them; `Idempotency-Key` is honoured',
      scope: 'submit',
      body: z.union([api.SubmitRun, z.array(api.SubmitRun)]),
      answer: z.union([Run, api.RunIds]),
      status: 201,
    },
  },
  '/api/v1/runs/{id}': { get: { summary: 'One run, by id or unambiguous prefix', scope: 'read', answer: Run } },
  '/api/v1/runs/{id}/why': { get: { summary: 'Why a run waits, or what became of it', scope: 'read', answer: RunWhy } },
  '/api/v1/runs/{id}/cancel': { post: { summary: 'Ask for a run to be ended', scope: 'submit', body: api.Cancel, answer: Run } },
  '/api/v1/runs/{id}/rerun': { post: { summary: 'Submit the same again', scope: 'submit', answer: Run, status: 201 } },
  '/api/v1/runs/{id}/log': {
    get: {
      summary: 'The log; text, JSON lines or an event stream by `Accept`',
      scope: 'read',
      answer: LogEntry,
      query: ['from', 'follow', 'attempt'],
    },
  },
  '/api/v1/runs/{id}/artifacts': {
    get: {
      summary: 'Artifacts of a run; with `contents=FIRST-LAST` the bytes of those at these positions of the list, one behind the other',
      scope: 'read',
      answer: api.ArtifactList,
      bytes: true,
      query: ['attempt', 'contents'],
    },
  },
  '/api/v1/runs/{id}/artifacts/{path}': {
    get: { summary: 'Bytes of an artifact; ranges, `ETag` is the digest', scope: 'read', bytes: true, query: ['attempt'] },
  },
  '/api/v1/inputs': { put: { summary: 'Store the bytes of an input', scope: 'submit', answer: api.StoredInput, status: 201 } },
  '/api/v1/inputs/{sha256}': { head: { summary: 'Whether an input is known', scope: 'read' } },
  '/api/v1/templates': { get: { summary: 'Every template', scope: 'read', answer: z.object({ templates: z.array(TemplateShape) }) } },
  '/api/v1/templates/{name}': {
    get: { summary: 'One template', scope: 'read', answer: TemplateShape },
    put: { summary: 'Define a template', scope: 'submit', body: api.PutTemplate, answer: TemplateShape, status: 201 },
    delete: { summary: 'Remove a template', scope: 'submit', status: 204 },
  },
  '/api/v1/workers': { get: { summary: 'Workers that are alive', scope: 'read', answer: z.object({ workers: z.array(api.WorkerInfo) }) } },
  '/api/v1/platforms': { get: { summary: 'Known platforms', scope: 'read' } },
  '/api/v1/platforms/{platform}/drop': { post: { summary: 'Take no more runs; cancel what waits', scope: 'admin', status: 204 } },
  '/api/v1/platforms/{platform}/undrop': { post: { summary: 'Take runs again', scope: 'admin', status: 204 } },
  '/api/v1/tokens': {
    get: { summary: 'Tokens, without their secrets', scope: 'admin', answer: z.object({ tokens: z.array(api.TokenInfo) }) },
    post: {
      summary: 'Make a token; its secret is shown once',
      scope: 'admin',
      body: api.CreateToken,
      answer: api.TokenInfo.extend({ token: z.string() }),
      status: 201,
    },
  },
  '/api/v1/tokens/{id}': { delete: { summary: 'Revoke a token', scope: 'admin', status: 204 } },
  '/healthz': { get: { summary: 'The process is alive', scope: null } },
  '/readyz': { get: { summary: 'Redis and the store answer', scope: null } },
  '/metrics': { get: { summary: 'Prometheus', scope: 'read' } },
};

export function openApiDocument(): object {
  const paths = Object.fromEntries(
    Object.entries(OPERATIONS).map(([path, methods]) => [
      path,
      Object.fromEntries(Object.entries(methods).map(([method, operation]) => [method, described(path, operation)])),
    ]),
  );
  return {
    openapi: '3.1.0',
    info: { title: 'builder', version: version() },
    paths,
    components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } }, schemas: { Problem: schemaOf(api.Problem, 'output') } },
  };
}

function described(path: string, { summary, scope, body, answer, bytes, status = 200, query = [] }: Operation): object {
  const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: 'path', required: true, schema: { type: 'string' } }));
  const asked = query.map((name) => ({ name, in: 'query', schema: { type: 'string' } }));
  const content = {
    ...(answer === undefined ? {} : { 'application/json': { schema: schemaOf(answer, 'output') } }),
    ...(bytes === undefined ? {} : { 'application/octet-stream': {} }),
  };
  const problem = {
    description: 'A problem',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  };
  return {
    summary: scope === null ? summary : `${summary} (scope ${scope})`,
    parameters: [...named, ...asked],
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: schemaOf(body, 'input') } } } }),
    responses: { [status]: { description: 'Done', content }, default: problem },
    security: scope === null ? [] : [{ token: [] }],
  };
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return rest;
}
