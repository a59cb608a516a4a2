/** Closing a server without cutting off what it answers, and within a bound. */
import type { FastifyInstance } from 'fastify';
import { limits } from '../job/limits.ts';

const SWEEP_MS = 50;

/** From `close` on: a connection ends with its answer, and every one after limits.serverDrainMs. */
export function drainConnections(app: FastifyInstance): void {
  app.addHook('preClose', async () => {
    const { server } = app;
    const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
    const bound = setTimeout(() => server.closeAllConnections(), limits.serverDrainMs);
    const end = (): void => {
      clearInterval(sweep);
      clearTimeout(bound);
    };
    if (server.listening) server.once('close', end);
    else end();
  });
}
