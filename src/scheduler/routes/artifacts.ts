/** Artifacts: the list of a run, and the bytes of one, with ranges; served so that no browser runs them. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { readManifest } from '../../artifacts/manifest.ts';
import type { ByteRange } from '../../artifacts/store.ts';
import type { Artifact } from '../../job/artifact.ts';
import { readRecord } from '../../queue/records.ts';
import { resolveRunId } from '../../queue/view.ts';
import { BuilderError } from '../../service/errors.ts';
import type { ServerContext } from '../server-context.ts';

type ByPath = { Params: { id: string; '*': string } };

export function artifactRoutes(app: FastifyInstance, context: ServerContext): void {
  app.get<{ Params: { id: string } }>('/runs/:id/artifacts', async (request) => ({
    artifacts: await artifactsOf(context, request.params.id),
  }));
  app.route<ByPath>({
    method: ['GET', 'HEAD'],
    url: '/runs/:id/artifacts/*',
    exposeHeadRoute: false,
    handler: async (request, reply) => {
      const path = request.params['*'];
      const artifact = (await artifactsOf(context, request.params.id)).find((one) => one.path === path);
      if (artifact === undefined)
        throw new BuilderError('not-found', `no such artifact of run ${request.params.id}: ${JSON.stringify(path)}`);
      return sendArtifact(context, request, reply, artifact);
    },
  });
}

/** Empty for a run that left none, or has not ended. */
async function artifactsOf({ queues, store }: ServerContext, name: string): Promise<Artifact[]> {
  const id = await resolveRunId(queues, name);
  const result = (await readRecord(queues.redis, id))?.result;
  if (result?.claim == null) return [];
  return (await readManifest(store, id, result.attempt, result.claim))?.artifacts ?? [];
}

async function sendArtifact(
  { store }: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  artifact: Artifact,
): Promise<FastifyReply> {
  const etag = `"${artifact.sha256}"`;
  reply.headers({
    etag,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-cache',
    'content-type': 'application/octet-stream',
    'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(artifact.path.split('/').at(-1) ?? '')}`,
    'content-security-policy': "default-src 'none'; sandbox",
  });
  if (request.headers['if-none-match']?.split(/\s*,\s*/).includes(etag)) return reply.status(304).send();
  const ifRange = request.headers['if-range'];
  const range = ifRange === undefined || ifRange === etag ? rangeOf(request.headers.range, artifact.bytes) : null;
  if (range === 'beyond') {
    reply.header('content-range', `bytes */${artifact.bytes}`);
    throw new BuilderError('range-not-satisfiable', `expected a range within ${artifact.bytes} bytes, got ${request.headers.range}`);
  }
  const bytes = range === null ? artifact.bytes : range.end - range.start + 1;
  reply.header('content-length', bytes);
  if (range !== null) reply.status(206).header('content-range', `bytes ${range.start}-${range.end}/${artifact.bytes}`);
  if (request.method === 'HEAD') return reply.send();
  return reply.send(await store.getBlob(artifact.sha256, range ?? undefined));
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
