/** The server's HTTP interface: who may ask what, and where the routes are. */
import { createRequire } from 'node:module';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Scope } from '../job/api.ts';
import { limits } from '../job/limits.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { boardPlugin } from './board/board.ts';
import { drainConnections } from './draining.ts';
import { checkHost } from './hosts.ts';
import { pagesPlugin } from './pages/pages.ts';
import { errorHandler, sendProblem } from './problem.ts';
import { artifactRoutes } from './routes/artifacts.ts';
import { documentRoutes } from './routes/document.ts';
import { healthRoutes } from './routes/health.ts';
import { infoRoutes } from './routes/info.ts';
import { inputRoutes } from './routes/inputs.ts';
import { jobRoutes } from './routes/jobs.ts';
import { logRoutes } from './routes/log.ts';
import { metricRoutes } from './routes/metrics.ts';
import { platformRoutes } from './routes/platforms.ts';
import { runRoutes } from './routes/runs.ts';
import { templateRoutes } from './routes/templates.ts';
import { tokenRoutes } from './routes/tokens.ts';
import type { ServerContext } from './server-context.ts';

/** As the CommonJS package that it is: `import` would have Node parse its files twice. */
const { fastify }: typeof import('fastify') = createRequire(import.meta.url)('fastify');

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answers without a token. */
    public?: boolean;
    /** Else `read` for GET, HEAD and paths that nobody knows, `submit` for the rest. */
    scope?: Scope;
  }
}

const API = '/api/v1';
const ROUTES = [infoRoutes, jobRoutes, runRoutes, logRoutes, artifactRoutes, inputRoutes, templateRoutes, platformRoutes, tokenRoutes];

export async function createApp(context: ServerContext): Promise<FastifyInstance> {
  const { config, logger } = context;
  const served = [config.host.toLowerCase(), ...config.allowedHosts];
  const app = fastify({
    logger: false,
    bodyLimit: limits.bodyBytesMax,
    forceCloseConnections: 'idle',
    // Of an upload whose producer lost its power nothing else would ever tell.
    http: { keepAlive: true, keepAliveInitialDelay: limits.deadPeerMs },
    routerOptions: { maxParamLength: limits.pathBytesMax },
    frameworkErrors: (error, _, reply) => void sendProblem(reply, new BuilderError('usage', oneLine(error))),
  });
  // Bodies are JSON; a form of another site could send text.
  app.removeContentTypeParser('text/plain');
  drainConnections(app);

  app.setErrorHandler(errorHandler(logger));
  app.setNotFoundHandler((request) => {
    throw new BuilderError('not-found', `no such path: ${request.method} ${pathOf(request)}`);
  });
  app.addHook('onRequest', async (request, reply) => {
    checkHost(request.headers.host, served);
    reply.headers({
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'",
      // Not no-referrer: forms would come with `Origin: null` then, and be taken for another site's.
      'referrer-policy': 'same-origin',
    });
    await admit(context, request, reply);
  });
  app.addHook('onResponse', async (request, reply) => {
    const ms = Math.round(reply.elapsedTime);
    logger.debug({ method: request.method, route: request.routeOptions.url ?? null, status: reply.statusCode, ms }, 'request');
  });

  await healthRoutes(app, context);
  await metricRoutes(app, context);
  await documentRoutes(app);
  await app.register(
    async (api) => {
      for (const routes of ROUTES) await routes(api, context);
    },
    { prefix: API },
  );
  await app.register(pagesPlugin, { context });
  await app.register(boardPlugin, { context });
  return app;
}

/** Browsers that ask for a page without a session are shown where to sign in. */
async function admit({ access }: ServerContext, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { public: open, scope } = request.routeOptions.config;
  if (open === true) return;
  const reading = request.method === 'GET' || request.method === 'HEAD' || request.is404;
  try {
    await access.demand(request, scope ?? (reading ? 'read' : 'submit'));
  } catch (thrown) {
    if (thrown instanceof BuilderError && thrown.code === 'unauthorized') reply.header('www-authenticate', 'Bearer');
    const wantsPage = request.method === 'GET' && (request.headers.accept ?? '').includes('text/html') && !request.url.startsWith('/api/');
    if (!wantsPage || !(thrown instanceof BuilderError) || thrown.code !== 'unauthorized') throw thrown;
    await reply.redirect(`/signin?next=${encodeURIComponent(request.url)}`, 302);
  }
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?')[0] ?? '';
}
