/** Platforms: known ones, dropping and taking back. */
import type { FastifyInstance } from 'fastify';
import { checkName } from '../../job/names.ts';
import { dropPlatform, listPlatforms, undropPlatform } from '../../queue/platforms.ts';
import type { ServerContext } from '../server-context.ts';

type Platform = { Params: { platform: string } };

export function platformRoutes(app: FastifyInstance, { queues }: ServerContext): void {
  app.get('/platforms', async () => ({ platforms: await listPlatforms(queues) }));
  app.post<Platform>('/platforms/:platform/drop', { config: { scope: 'admin' } }, async (request, reply) => {
    await dropPlatform(queues, checkName('platform', request.params.platform));
    return reply.status(204).send();
  });
  app.post<Platform>('/platforms/:platform/undrop', { config: { scope: 'admin' } }, async (request, reply) => {
    await undropPlatform(queues, checkName('platform', request.params.platform));
    return reply.status(204).send();
  });
}
