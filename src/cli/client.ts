/** The one place that talks to the server: a function per route, answers parsed with the schemas of src/job. */
import type { PutJob, Scope, SubmitRun } from '../job/api.ts';
import { ArtifactList, Info, Job, RunIds, RunPage, StoredInput, TokenInfo, WorkerInfo } from '../job/api.ts';
import type { Artifact } from '../job/artifact.ts';
import { JobWhy } from '../job/job-why.ts';
import { Run } from '../job/run.ts';
import { RunWhy } from '../job/run-why.ts';
import { Template } from '../job/template.ts';
import { BuilderError } from '../service/errors.ts';
import type { Access } from './client-config.ts';
import { insist } from './insistence.ts';
import { type LogRecord, readRecords } from './log-records.ts';
import { type Call, createTransport, steps, type Transport } from './transport.ts';

export interface RunsQuery {
  job?: string | undefined;
  platform?: string | undefined;
  outcome?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export interface LogQuery {
  from: number;
  follow: boolean;
  /** This one alone; the newest, or the one that counts, when it is not given. */
  attempt?: number | undefined;
  signal: AbortSignal;
}

export interface Platform {
  name: string;
  dropped: boolean;
  workers: number;
}

export interface InputBytes {
  sha256: string;
  bytes: number;
  content: ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer>;
}

export type Client = ReturnType<typeof createClient>;

interface Schema<T> {
  parse(value: unknown): T;
}

export function createClient(access: Access) {
  const transport = createTransport(access);
  const read = async <T>(schema: Schema<T>, call: Call): Promise<T> => parsed(schema, await transport.json(call), access);
  const readList = async <T>(key: string, schema: Schema<T>): Promise<T[]> => {
    const answer = await transport.json({ path: key });
    const list = isObject(answer) ? answer[key] : undefined;
    if (!Array.isArray(list)) throw strange(access);
    return list.map((one) => parsed(schema, one, access));
  };
  const post = <T>(schema: Schema<T>, path: string, body: unknown): Promise<T> => read(schema, { method: 'POST', path, body });
  const make = <T>(schema: Schema<T>, path: string, body: unknown): Promise<T> =>
    insist((headers) => read(schema, { method: 'POST', path, body, headers }));
  return {
    server: access.server,
    info: () => read(Info, { path: 'info' }),

    jobs: () => readList('jobs', Job),
    job: (name: string) => read(Job, { path: steps('jobs', name) }),
    jobWhy: (name: string) => read(JobWhy, { path: `${steps('jobs', name)}/why` }),
    putJob: (name: string, body: PutJob, onlyNew: boolean) =>
      read(Job, { method: 'PUT', path: steps('jobs', name), body, headers: onlyNew ? { 'if-none-match': '*' } : {} }),
    removeJob: (name: string) => transport.json({ method: 'DELETE', path: steps('jobs', name) }),
    reschedule: (name: string, body: Pick<PutJob, 'period'> & { next: string }) => post(Job, `${steps('jobs', name)}/reschedule`, body),
    execute: async (name: string, platform: string | undefined) =>
      (await make(RunIds, `${steps('jobs', name)}/execute`, platform === undefined ? {} : { platform })).runs,

    submit: (body: SubmitRun) => make(Run, 'runs', body),
    runs: ({ limit, ...query }: RunsQuery) => read(RunPage, { path: 'runs', query: { ...query, limit: limit?.toString() } }),
    run: (id: string, signal?: AbortSignal) => read(Run, { path: steps('runs', id), ...(signal === undefined ? {} : { signal }) }),
    runWhy: (id: string) => read(RunWhy, { path: `${steps('runs', id)}/why` }),
    cancel: (id: string, reason: string | undefined) => post(Run, `${steps('runs', id)}/cancel`, reason === undefined ? {} : { reason }),
    rerun: (id: string) => make(Run, `${steps('runs', id)}/rerun`, {}),
    log: (id: string, query: LogQuery) => readLog(transport, id, query),
    artifacts: async (id: string, attempt?: number) =>
      (await read(ArtifactList, { path: `${steps('runs', id)}/artifacts`, query: { attempt: attempt?.toString() } })).artifacts,
    artifact: (id: string, artifact: Artifact, o: { attempt: number | undefined; signal: AbortSignal }) =>
      readArtifact(transport, `${steps('runs', id)}/artifacts/${steps(...artifact.path.split('/'))}`, o),
    /** Null where they cannot be had together; throws nothing. Whether they are as announced is not looked at. */
    contents: (id: string, first: number, artifacts: Artifact[], o: { attempt: number | undefined; signal: AbortSignal }) =>
      readContents(transport, `${steps('runs', id)}/artifacts`, { first, artifacts, ...o }),

    hasInput: (sha256: string) => hasInput(transport, sha256),
    putInput: ({ sha256, bytes, content }: InputBytes) => putInput(transport, access, { sha256, bytes, content }),

    templates: () => readList('templates', Template),
    template: (name: string) => read(Template, { path: steps('templates', name) }),
    putTemplate: (name: string, scripts: Record<string, string>) =>
      transport.json({ method: 'PUT', path: steps('templates', name), body: { scripts } }),
    removeTemplate: (name: string) => transport.json({ method: 'DELETE', path: steps('templates', name) }),

    platforms: () => readList<Platform>('platforms', { parse: parsePlatform }),
    setDropped: (platform: string, dropped: boolean) =>
      transport.json({ method: 'POST', path: `${steps('platforms', platform)}/${dropped ? 'drop' : 'undrop'}`, body: {} }),
    workers: () => readList('workers', WorkerInfo),

    tokens: () => readList('tokens', TokenInfo),
    createToken: async (name: string, scope: Scope) => {
      const answer = await transport.json({ method: 'POST', path: 'tokens', body: { name, scope } });
      const token = isObject(answer) ? answer.token : undefined;
      if (typeof token !== 'string') throw strange(access);
      return { token, ...parsed(TokenInfo, answer, access) };
    },
    revokeToken: (id: string) => transport.json({ method: 'DELETE', path: steps('tokens', id) }),
  };
}

async function* readLog(transport: Transport, id: string, { from, follow, attempt, signal }: LogQuery): AsyncGenerator<LogRecord[]> {
  const response = await transport.send({
    path: `${steps('runs', id)}/log`,
    query: { from: String(from), follow: follow ? '1' : undefined, attempt: attempt?.toString() },
    headers: { accept: 'application/x-ndjson' },
    signal,
  });
  // The first, empty batch says that the connection stands.
  yield [];
  try {
    yield* readRecords(response.body);
  } catch (cause) {
    throw transport.broken(cause);
  }
}

async function* readArtifact(
  transport: Transport,
  path: string,
  { attempt, signal }: { attempt: number | undefined; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const response = await transport.send({ path, query: { attempt: attempt?.toString() }, headers: { accept: '*/*' }, signal });
  try {
    yield* response.body;
  } catch (cause) {
    throw transport.broken(cause);
  }
}

interface Together {
  /** Their position in the list. */
  first: number;
  artifacts: Artifact[];
  attempt: number | undefined;
  signal: AbortSignal;
}

async function readContents(transport: Transport, path: string, { first, artifacts, attempt, signal }: Together): Promise<Buffer | null> {
  const bytes = artifacts.reduce((sum, artifact) => sum + artifact.bytes, 0);
  const query = { contents: `${first}-${first + artifacts.length - 1}`, attempt: attempt?.toString() };
  const chunks: Uint8Array[] = [];
  let received = 0;
  try {
    const response = await transport.send({ path, query, headers: { accept: 'application/octet-stream' }, signal });
    for await (const chunk of response.body) {
      chunks.push(chunk);
      received += chunk.length;
      if (received > bytes) return null;
    }
  } catch {
    return null;
  }
  return received === bytes ? Buffer.concat(chunks) : null;
}

async function hasInput(transport: Transport, sha256: string): Promise<boolean> {
  const answer = await transport.send({ method: 'HEAD', path: steps('inputs', sha256), accept: 404 });
  // Its connection is free again once the body that it lacks has been read.
  await answer.text();
  return answer.ok;
}

async function putInput(transport: Transport, access: Access, { sha256, bytes, content }: InputBytes): Promise<void> {
  const response = await transport.send({
    method: 'PUT',
    path: 'inputs',
    bytes: { content, length: bytes },
    headers: { 'x-content-sha256': sha256 },
  });
  const answer: unknown = await response
    .text()
    .then(JSON.parse)
    .catch(() => null);
  const stored = parsed(StoredInput, answer, access);
  if (stored.sha256 !== sha256) throw new BuilderError('damaged', `expected the server to store ${sha256}, got ${stored.sha256}`);
}

function parsed<T>(schema: Schema<T>, value: unknown, access: Access): T {
  try {
    return schema.parse(value);
  } catch (cause) {
    throw strange(access, cause);
  }
}

function strange({ server }: Access, cause?: unknown): BuilderError {
  return new BuilderError('unreachable', `expected a builder server of this version at ${server}, got an answer of another form`, {
    cause,
  });
}

function parsePlatform(value: unknown): Platform {
  if (!isObject(value) || typeof value.name !== 'string') throw new Error('no platform');
  return { name: value.name, dropped: value.dropped === true, workers: Number(value.workers ?? 0) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
