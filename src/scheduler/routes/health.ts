/** `/healthz`: the process is alive. `/readyz`: Redis and the store answer. */
import type { FastifyInstance } from 'fastify';
import { BuilderError, oneLine } from '../../service/errors.ts';
import type { ServerContext } from '../server-context.ts';

const open = { config: { public: true } } as const;

export function healthRoutes(app: FastifyInstance, { queues, store }: ServerContext): void {
  app.get('/healthz', open, () => ({ status: 'ok' }));
  app.get('/readyz', open, async () => {
    await queues.redis.ping().catch((cause) => {
      throw new BuilderError('redis-unavailable', `expected Redis to answer, got ${oneLine(cause)}`);
    });
    await store.check();
    return { status: 'ready' };
  });
}
