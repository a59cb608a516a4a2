/** Artifacts: the list of a run, and the bytes of one, with ranges; served so that no browser runs them. */
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { readManifest } from '../../artifacts/manifest.ts';
import type { ByteRange, Store } from '../../artifacts/store.ts';
import type { Artifact } from '../../job/artifact.ts';
import { limits } from '../../job/limits.ts';
import { readClaimed } from '../../queue/records.ts';
import { resolveRunId } from '../../queue/view.ts';
import { eachAtOnce } from '../../service/each.ts';
import { BuilderError } from '../../service/errors.ts';
import { parse } from '../parse.ts';
import type { ServerContext } from '../server-context.ts';

const Query = z.strictObject({ attempt: z.coerce.number().int().min(1).optional() });
/** Positions in the list, the last inclusive. */
const ListQuery = Query.extend({
  contents: z
    .string()
    .regex(/^\d{1,6}-\d{1,6}$/, 'expected FIRST-LAST')
    .optional(),
});

type ByPath = { Params: { id: string; '*': string } };

/** Manifests never change: the newest few are kept, by path, for those who fetch every file of a run. */
const MANIFESTS_KEPT = 16;

export function artifactRoutes(app: FastifyInstance, context: ServerContext): void {
  const manifests = new Map<string, Map<string, Artifact>>();
  const artifactsOf = (id: string, query: unknown) => findArtifacts(context, manifests, { name: id, ...parse(Query, query) });
  app.get<{ Params: { id: string } }>('/runs/:id/artifacts', async (request, reply) => {
    const { contents, ...query } = parse(ListQuery, request.query);
    const artifacts = [...(await artifactsOf(request.params.id, query)).values()];
    return contents === undefined ? { artifacts } : sendTogether(context.store, reply, rowOf(artifacts, contents));
  });
  app.route<ByPath>({
    method: ['GET', 'HEAD'],
    url: '/runs/:id/artifacts/*',
    exposeHeadRoute: false,
    handler: async (request, reply) => {
      const path = request.params['*'];
      const artifact = (await artifactsOf(request.params.id, request.query)).get(path);
      if (artifact === undefined)
        throw new BuilderError('not-found', `no such artifact of run ${request.params.id}: ${JSON.stringify(path)}`);
      return sendArtifact(context, request, reply, artifact);
    },
  });
}

/** Empty for a run that left none, or has not ended; of an attempt that does not count only when it is asked for. */
async function findArtifacts(
  { queues, store }: ServerContext,
  kept: Map<string, Map<string, Artifact>>,
  { name, attempt }: z.infer<typeof Query> & { name: string },
): Promise<Map<string, Artifact>> {
  const id = await resolveRunId(queues, name);
  const claimed = await readClaimed(queues.redis, id, attempt);
  if (claimed === null) return new Map();
  const key = `${id}/${claimed.attempt}-${claimed.claim}/${attempt === undefined ? 'counts' : 'asked'}`;
  const known = kept.get(key);
  if (known !== undefined) return known;
  const manifest = await readManifest(store, id, claimed.attempt, claimed.claim);
  // The run ended without its worker, which came back with files later: they are no part of the result.
  if (attempt === undefined && manifest?.outcome !== claimed.outcome) return new Map();
  const byPath = new Map(manifest?.artifacts.map((artifact) => [artifact.path, artifact]));
  if (manifest !== null) kept.set(key, byPath);
  for (const oldest of kept.keys()) if (kept.size > MANIFESTS_KEPT) kept.delete(oldest);
  return byPath;
}

async function sendArtifact(
  { store }: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  artifact: Artifact,
): Promise<FastifyReply> {
  const etag = `"${artifact.sha256}"`;
  const ifRange = request.headers['if-range'];
  const range = ifRange === undefined || ifRange === etag ? rangeOf(request.headers.range, artifact.bytes) : null;
  const unchanged = isUnchanged(request.headers['if-none-match'], etag);
  if (range === 'beyond' && !unchanged) {
    reply.header('content-range', `bytes */${artifact.bytes}`);
    throw new BuilderError('range-not-satisfiable', `expected a range within ${artifact.bytes} bytes, got ${request.headers.range}`);
  }
  const sends = !unchanged && range !== 'beyond' && request.method !== 'HEAD';
  // Before any header: what goes wrong here is told without them.
  const content = sends ? await contentOf(store, artifact, range) : undefined;
  reply.headers({
    etag,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-cache',
    'content-type': 'application/octet-stream',
    'content-disposition': `attachment; filename*=UTF-8''${extended(artifact.path.split('/').at(-1) ?? '')}`,
    'content-security-policy': "default-src 'none'; sandbox",
  });
  if (unchanged || range === 'beyond') return reply.status(304).send();
  const bytes = range === null ? artifact.bytes : range.end - range.start + 1;
  reply.header('content-length', bytes);
  if (range !== null) reply.status(206).header('content-range', `bytes ${range.start}-${range.end}/${artifact.bytes}`);
  return reply.send(content);
}

/** A small one from memory: a stream costs the server more than all the rest of such a request. Throws `damaged` as `wholeOf`. */
async function contentOf(store: Store, artifact: Artifact, range: ByteRange | null): Promise<Buffer | Readable> {
  const { sha256, bytes } = artifact;
  if (range === null && bytes <= limits.wholeFileBytesMax) return wholeOf(store, artifact);
  const found = await store.statBlob(sha256);
  // Too short, it would leave who reads it waiting for the rest. One that is gone the store tells of.
  if (found !== null && found !== bytes) throw damaged(artifact);
  return store.getBlob(sha256, range ?? undefined);
}

/** Throws `invalid-value` for a row that is not all in the list, or has more than one answer may. */
function rowOf(artifacts: Artifact[], contents: string): Artifact[] {
  const [first = 0, last = 0] = contents.split('-').map(Number);
  if (first > last || last >= artifacts.length) {
    throw new BuilderError('invalid-value', `expected FIRST-LAST within a list of ${artifacts.length}, got contents=${contents}`);
  }
  const row = artifacts.slice(first, last + 1);
  const bytes = row.reduce((sum, artifact) => sum + artifact.bytes, 0);
  if (row.length <= limits.filesTogetherMax && bytes <= limits.wholeFileBytesMax) return row;
  const most = `${limits.filesTogetherMax} of the run's artifacts, of ${limits.wholeFileBytesMax} bytes together`;
  throw new BuilderError('invalid-value', `expected at most ${most}, got contents=${contents}`);
}

/** The bytes of small artifacts, one behind the other: the list tells how many each has. */
async function sendTogether(store: Store, reply: FastifyReply, artifacts: Artifact[]): Promise<FastifyReply> {
  const contents = await eachAtOnce(artifacts, limits.filesAtOnce, (artifact) => wholeOf(store, artifact));
  reply.headers({ 'cache-control': 'private, no-cache', 'content-type': 'application/octet-stream' });
  return reply.send(Buffer.concat(contents));
}

/** Throws `damaged` where it has another length. */
async function wholeOf(store: Store, artifact: Artifact): Promise<Buffer> {
  const { sha256, bytes } = artifact;
  const content =
    store.getWholeBlob === undefined ? await readAtMost(await store.getBlob(sha256), bytes) : await store.getWholeBlob(sha256, bytes);
  if (content?.length === bytes) return content;
  throw damaged(artifact);
}

function damaged({ sha256, bytes }: Artifact): BuilderError {
  return new BuilderError('damaged', `expected a blob of ${bytes} bytes at ${sha256}, got another length`);
}

/** All of it, or a little more than so many bytes. */
async function readAtMost(stream: Readable, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let taken = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    taken += chunk.length;
    if (taken > bytes) break;
  }
  return Buffer.concat(chunks);
}

function isUnchanged(ifNoneMatch: string | undefined, etag: string): boolean {
  const known = (ifNoneMatch ?? '').split(',').map((one) => one.trim().replace(/^W\//, ''));
  return known.includes(etag) || known.includes('*');
}

/** As RFC 8187 wants it, which escapes more than URLs do. */
function extended(name: string): string {
  return encodeURIComponent(Buffer.from(name).toString()).replace(/['()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** One range of bytes; several, and units that nobody knows, count as none (RFC 9110, 14.2). */
function rangeOf(header: string | undefined, bytes: number): ByteRange | 'beyond' | null {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (match === null || (match[1] === '' && match[2] === '')) return null;
  const [first, last] = [match[1] ?? '', match[2] ?? ''];
  if (first === '') return Number(last) === 0 || bytes === 0 ? 'beyond' : { start: Math.max(0, bytes - Number(last)), end: bytes - 1 };
  const end = last === '' ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (last !== '' && Number(last) < Number(first)) return null;
  return Number(first) >= bytes ? 'beyond' : { start: Number(first), end };
}
