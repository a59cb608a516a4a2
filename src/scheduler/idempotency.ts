/** `Idempotency-Key`: the same request again makes the same runs, however many send it at the same time. */
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { limits } from '../job/limits.ts';
import { newRunId } from '../job/names.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import { BuilderError } from '../service/errors.ts';
import type { ServerContext } from './server-context.ts';

const Reservation = z.object({ body: z.string(), ids: z.array(z.string()) });

const KEY_CHARS_MAX = 255;

/**
 * Ids for the runs that a request makes: fresh ones, or those that the first request with its `Idempotency-Key` took. A key counts for its
 * token alone. Throws `invalid-value` for another body under the same key.
 */
export async function reserveIds(
  { queues, access }: ServerContext,
  request: FastifyRequest,
  body: unknown,
  count: number,
): Promise<string[]> {
  const { tokenId } = await access.demand(request, 'submit');
  return idsFor(queues.redis, { key: request.headers['idempotency-key'], tokenId, body, count });
}

export async function reserveId(context: ServerContext, request: FastifyRequest, body: unknown): Promise<string> {
  const [id] = await reserveIds(context, request, body, 1);
  return id ?? newRunId();
}

interface Idempotent {
  key: string | string[] | undefined;
  tokenId: string;
  body: unknown;
  count: number;
}

async function idsFor(redis: Redis, o: Idempotent): Promise<string[]> {
  const fresh = Array.from({ length: o.count }, newRunId);
  if (o.key === undefined) return fresh;
  if (typeof o.key !== 'string' || o.key === '' || o.key.length > KEY_CHARS_MAX) {
    throw new BuilderError('invalid-value', `expected one Idempotency-Key of 1 to ${KEY_CHARS_MAX} characters, got another number of them`);
  }
  const body = createHash('sha256').update(JSON.stringify(o.body)).digest('hex');
  const key = keys.idempotency(o.tokenId, o.key);
  for (;;) {
    if ((await redis.set(key, JSON.stringify({ body, ids: fresh }), 'PX', limits.idempotencyTtlMs, 'NX')) === 'OK') return fresh;
    const taken = await redis.get(key);
    // It has expired since: try to take it.
    if (taken === null) continue;
    const known = Reservation.parse(JSON.parse(taken));
    if (known.body === body) return known.ids;
    throw new BuilderError('invalid-value', 'expected the same body under the same Idempotency-Key, got another');
  }
}
