/** The operations view: Bull Board under `/board`, reading for scope `read`, buttons for scope `admin`. */
import { createRequire } from 'node:module';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { knownPlatforms } from '../../queue/platform-sets.ts';
import { tickQueue } from '../../queue/queues.ts';
import { TICK_QUEUE } from '../../redis/keys.ts';
import { asBuilderError } from '../../service/errors.ts';
import type { ServerContext } from '../server-context.ts';
import { press } from './buttons.ts';
import { RunQueueAdapter } from './run-queue-adapter.ts';

/** As the CommonJS packages that they are: `import` would have Node parse their files twice. */
const require = createRequire(import.meta.url);
const { createBullBoard }: typeof import('@bull-board/api') = require('@bull-board/api');
const { FastifyAdapter }: typeof import('@bull-board/fastify') = require('@bull-board/fastify');

const BASE = '/board';
const API = `${BASE}/api`;
/** Bull Board's own script, styles of elements, nothing from elsewhere. */
const CONTENT_POLICY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'";

export async function boardPlugin(app: FastifyInstance, { context }: { context: ServerContext }): Promise<void> {
  const server = new FastifyAdapter().setBasePath(BASE);
  const tick = new BullMQAdapter(tickQueue(context.queues), {
    readOnlyMode: true,
    displayName: TICK_QUEUE,
    description: 'When jobs are due',
  });
  const board = createBullBoard({
    queues: [tick],
    serverAdapter: server,
    options: {
      uiConfig: { boardTitle: 'builder', boardLogo: { path: '', width: 0, height: 0 }, miscLinks: [{ text: 'Sign out', url: '/signout' }] },
    },
  });
  server.setErrorHandler((thrown) => {
    const { status, body } = toldByBoard(thrown);
    return { status: status as 500, body };
  });
  const adapters = new Map<string, RunQueueAdapter>();
  const refresh = async (): Promise<void> => {
    for (const platform of await knownPlatforms(context.queues)) {
      if (adapters.has(platform)) continue;
      const adapter = new RunQueueAdapter(context, platform);
      adapters.set(platform, adapter);
      board.addQueue(adapter);
    }
  };
  app.addHook('preHandler', async (request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    reply.header('content-security-policy', CONTENT_POLICY);
    if (request.method === 'GET' || request.method === 'HEAD') {
      if (path.startsWith(API)) await refresh();
      return undefined;
    }
    return pressed(context, request, reply, path.slice(API.length));
  });
  await app.register(server.registerPlugin(), { prefix: BASE });
}

async function pressed(context: ServerContext, request: FastifyRequest, reply: FastifyReply, path: string): Promise<FastifyReply> {
  try {
    await context.access.demand(request, 'admin');
    return await reply.send(await press(context, { method: request.method, path, body: request.body }));
  } catch (thrown) {
    const { status, body } = toldByBoard(thrown);
    return reply.status(status).send(body);
  }
}

/** In the form that Bull Board's page shows; what is a fault of builder is said, never where. */
function toldByBoard(thrown: unknown): { status: number; body: Record<string, unknown> } {
  const error = asBuilderError(thrown);
  return { status: error.status, body: { error: { key: 'ERRORS.INTERNAL_SERVER_ERROR' }, message: error.message, code: error.code } };
}
