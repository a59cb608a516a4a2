/** Templates: a script per platform, by name. */
import type { FastifyInstance } from 'fastify';
import { PutTemplate } from '../../job/api.ts';
import { checkName } from '../../job/names.ts';
import { listJobs } from '../../queue/definitions.ts';
import { getTemplate, listTemplates, putTemplate, removeTemplate } from '../../queue/templates.ts';
import { BuilderError } from '../../service/errors.ts';
import { parse } from '../parse.ts';
import type { ServerContext } from '../server-context.ts';

type Named = { Params: { name: string } };

export function templateRoutes(app: FastifyInstance, { queues }: ServerContext): void {
  app.get('/templates', async () => ({ templates: await listTemplates(queues) }));
  app.get<Named>('/templates/:name', async (request) => {
    const template = await getTemplate(queues, request.params.name);
    if (template === null) throw new BuilderError('not-found', `no such template: ${request.params.name}`);
    return template;
  });
  app.put<Named>('/templates/:name', async (request, reply) => {
    const name = checkName('template', request.params.name);
    const { scripts } = parse(PutTemplate, request.body);
    if (Object.keys(scripts).length === 0) throw new BuilderError('invalid-value', 'expected a script for one platform at least, got none');
    const known = await getTemplate(queues, name);
    await putTemplate(queues, { name, scripts });
    return reply.status(known === null ? 201 : 200).send({ name, scripts });
  });
  app.delete<Named>('/templates/:name', async (request, reply) => {
    const users = (await listJobs(queues)).filter(({ source }) => source.kind === 'template' && source.template === request.params.name);
    if (users.length > 0) {
      const names = users.map(({ name }) => name).join(', ');
      throw new BuilderError('conflict', `expected a template that no job uses, got ${request.params.name}, which is used by ${names}`);
    }
    if (!(await removeTemplate(queues, request.params.name)))
      throw new BuilderError('not-found', `no such template: ${request.params.name}`);
    return reply.status(204).send();
  });
}
