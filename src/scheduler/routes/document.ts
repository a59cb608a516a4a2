/** `/api/openapi.json`: the interface, described from the schemas that parse it. */
import type { FastifyInstance } from 'fastify';
import { openApiDocument } from '../openapi.ts';

export function documentRoutes(app: FastifyInstance): void {
  const document = openApiDocument();
  app.get('/api/openapi.json', () => document);
}
