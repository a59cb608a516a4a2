/** Tokens of producers; all of it for scope `admin`. */
import type { FastifyInstance } from 'fastify';
import { CreateToken } from '../../job/api.ts';
import { BuilderError } from '../../service/errors.ts';
import { parse } from '../parse.ts';
import type { ServerContext } from '../server-context.ts';
import { createToken, listTokens, revokeToken } from '../tokens.ts';

const admin = { config: { scope: 'admin' } } as const;

export function tokenRoutes(app: FastifyInstance, { queues: { redis } }: ServerContext): void {
  app.get('/tokens', admin, async () => ({ tokens: await listTokens(redis) }));
  app.post('/tokens', admin, async (request, reply) => {
    const { name, scope } = parse(CreateToken, request.body);
    return reply
      .status(201)
      .header('cache-control', 'no-store')
      .send(await createToken(redis, name, scope));
  });
  app.delete<{ Params: { id: string } }>('/tokens/:id', admin, async (request, reply) => {
    if (!(await revokeToken(redis, request.params.id))) throw new BuilderError('not-found', `no such token: ${request.params.id}`);
    return reply.status(204).send();
  });
}
