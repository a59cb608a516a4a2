/** Errors as `application/problem+json`; what went wrong inside is for the log, never for the answer. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { Problem } from '../job/api.ts';
import { isRedisAway } from '../redis/connection.ts';
import { asBuilderError, BuilderError, CATALOGUE, oneLine } from '../service/errors.ts';
import type { Logger } from '../service/logger.ts';

const SERVER_FAULT = 500;

export function problemOf(error: BuilderError): Problem {
  const { code, status, message } = error;
  return { type: `https://builder.invalid/problems/${code}`, title: CATALOGUE[code].title, status, code, detail: message };
}

/** Fastify's own errors (a body that is no JSON, too large, of another type) become those of the catalogue. */
export function toBuilderError(thrown: FastifyError | Error): BuilderError {
  if (thrown instanceof BuilderError) return thrown;
  const status = 'statusCode' in thrown ? thrown.statusCode : undefined;
  if (status === 413) return new BuilderError('too-large', oneLine(thrown));
  if (status === 415) return new BuilderError('unsupported-media-type', oneLine(thrown));
  if (status !== undefined && status >= 400 && status < SERVER_FAULT) return new BuilderError('usage', oneLine(thrown));
  if (isRedisAway(thrown))
    return new BuilderError('redis-unavailable', 'expected Redis to answer, got no answer; try again', { cause: thrown });
  return asBuilderError(thrown);
}

export function sendProblem(reply: FastifyReply, error: BuilderError): FastifyReply {
  if (error.code === 'unauthorized') reply.header('www-authenticate', 'Bearer');
  if (error.status === 503) reply.header('retry-after', '1');
  return reply.status(error.status).type('application/problem+json').send(problemOf(error));
}

export function errorHandler(logger: Logger): (thrown: FastifyError | Error, request: FastifyRequest, reply: FastifyReply) => FastifyReply {
  return (thrown, request, reply) => {
    // The client went away in the middle of its body: nobody reads the answer.
    if (request.raw.aborted && !(thrown instanceof BuilderError))
      return sendProblem(reply, new BuilderError('usage', 'expected a whole request, got a part of one'));
    const error = toBuilderError(thrown);
    if (error.code === 'internal') {
      logger.error({ route: request.routeOptions.url, method: request.method, error: thrown.stack ?? oneLine(thrown) }, 'a request failed');
      return sendProblem(reply, new BuilderError('internal', 'builder failed; the log of the server tells why'));
    }
    if (error.status >= SERVER_FAULT)
      logger.warn({ route: request.routeOptions.url, code: error.code, error: error.message }, 'a request failed');
    return sendProblem(reply, error);
  };
}
