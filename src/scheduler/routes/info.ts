/** `GET info` and `GET workers`. */
import type { FastifyInstance } from 'fastify';
import { getInfo } from '../../queue/view.ts';
import { listWorkers } from '../../queue/workers.ts';
import type { ServerContext } from '../server-context.ts';

export function infoRoutes(app: FastifyInstance, { queues }: ServerContext): void {
  app.get('/info', () => getInfo(queues));
  app.get('/workers', async () => ({ workers: await listWorkers(queues) }));
}
