/** `GET runs/:id/log`: replay from any line, and follow to the end; as fast as the client reads, no faster. */
import { once } from 'node:events';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';
import { limits } from '../../job/limits.ts';
import { getRun, resolveRunId } from '../../queue/view.ts';
import { BuilderError, oneLine } from '../../service/errors.ts';
import { joinSignals } from '../../service/joined-signal.ts';
import { formatFor, type LogFormat } from '../log-formats.ts';
import { parse } from '../parse.ts';
import { runLog } from '../run-log.ts';
import type { ServerContext } from '../server-context.ts';

const Query = z.strictObject({
  from: z.coerce.number().int().min(1).default(1),
  follow: z.enum(['0', '1', 'false', 'true']).default('0'),
  attempt: z.coerce.number().int().min(1).optional(),
});

export function logRoutes(app: FastifyInstance, context: ServerContext): void {
  app.get<{ Params: { id: string } }>('/runs/:id/log', { exposeHeadRoute: false }, async (request, reply) => {
    const query = parse(Query, request.query);
    const id = await resolveRunId(context.queues, request.params.id);
    await checkAttempt(context, id, query.attempt);
    const format = formatFor(request.headers.accept);
    const resumed = Number(request.headers['last-event-id'] ?? 0);
    const follow = query.follow === '1' || query.follow === 'true';
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    // While it was looked for, too.
    if (reply.raw.destroyed) gone.abort();
    const over = joinSignals([gone.signal, context.stopping]);
    let quiet = false;
    const chunks = runLog(context, {
      id,
      from: Number.isSafeInteger(resumed) && resumed > 0 ? resumed + 1 : query.from,
      follow,
      attempt: query.attempt ?? null,
      signal: over.signal,
      onQuiet: (isQuiet) => {
        quiet = isQuiet;
      },
    });
    await send(context, { reply, format, chunks, isQuiet: () => quiet, gone: gone.signal, follow }).finally(over.release);
    return reply;
  });
}

/** Told before the answer begins. */
async function checkAttempt({ queues }: ServerContext, id: string, attempt: number | undefined): Promise<void> {
  if (attempt === undefined) return;
  const attempts = (await getRun(queues, id)).attempts.length;
  if (attempt > attempts) throw new BuilderError('not-found', `expected one of ${attempts} attempts of run ${id}, got ${attempt}`);
}

interface Sending {
  reply: FastifyReply;
  format: LogFormat;
  chunks: AsyncGenerator<Buffer>;
  /** Whether the log was read to its end so far: a store that does not answer must not look like a log of which nothing comes. */
  isQuiet(): boolean;
  gone: AbortSignal;
  follow: boolean;
}

async function send({ logger, stopping }: ServerContext, { reply, format, chunks, isQuiet, gone, follow }: Sending): Promise<void> {
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, {
    ...reply.getHeaders(),
    'content-type': format.contentType,
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  } as Record<string, string>);
  // A follower of a run that waits hears at once that it is connected.
  raw.flushHeaders();
  const ping = (): void => {
    if (isQuiet() && !raw.writableNeedDrain) raw.write(format.ping);
  };
  const pings = follow && format.ping !== '' ? setInterval(ping, limits.eventStreamPingMs) : undefined;
  try {
    for await (const chunk of chunks) {
      if (raw.write(format.render(chunk)) || gone.aborted) continue;
      await once(raw, 'drain', { signal: gone });
    }
    // A follower whose server stops sees a cut, not the end of a log, and asks again.
    if (follow && stopping.aborted) raw.destroy();
    else raw.end();
  } catch (cause) {
    // The answer has begun: it is cut off, so that a client takes it for unfinished and asks again.
    if (!gone.aborted) logger.warn({ error: oneLine(cause) }, 'a log could not be sent to its end');
    raw.destroy();
  } finally {
    clearInterval(pings);
  }
}
