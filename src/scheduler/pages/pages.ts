/** The web pages for people: sign-in, overview, one run. */
import type { FastifyInstance } from 'fastify';
import { readManifest } from '../../artifacts/manifest.ts';
import type { Artifact } from '../../job/artifact.ts';
import { readRecord } from '../../queue/records.ts';
import { listRuns } from '../../queue/run-list.ts';
import { getInfo, getRun, resolveRunId } from '../../queue/view.ts';
import type { ServerContext } from '../server-context.ts';
import { sendPage } from './html.ts';
import { overviewPage } from './overview.ts';
import { RUN_SCRIPT, runPage } from './run-page.ts';
import { signInRoutes } from './sign-in.ts';

const RECENT = 20;

export async function pagesPlugin(app: FastifyInstance, { context }: { context: ServerContext }): Promise<void> {
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string', bodyLimit: 16_384 }, (_, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(String(body)))),
  );
  signInRoutes(app, context);

  app.get('/', async (_, reply) => {
    const [info, { runs }] = await Promise.all([getInfo(context.queues), listRuns(context.queues, { limit: RECENT })]);
    return sendPage(reply, { title: 'Overview', body: overviewPage(info, runs) });
  });

  app.get<{ Params: { id: string } }>('/runs/:id', async (request, reply) => {
    const id = await resolveRunId(context.queues, request.params.id);
    const [run, artifacts] = await Promise.all([getRun(context.queues, id), artifactsOf(context, id)]);
    return sendPage(reply, { title: run.job ?? `Run ${id.slice(0, 8)}`, body: runPage(run, artifacts), script: RUN_SCRIPT });
  });
}

async function artifactsOf(context: ServerContext, id: string): Promise<Artifact[]> {
  const result = (await readRecord(context.queues.redis, id))?.result;
  if (result?.claim == null) return [];
  const manifest = await readManifest(context.store, id, result.attempt, result.claim);
  return manifest === null || manifest.outcome === 'superseded' ? [] : manifest.artifacts;
}
