/** Requests that make runs: one whose answer was lost is sent again under the same key, so that it makes them once. */
import { randomUUID } from 'node:crypto';
import { limits } from '../job/limits.ts';

/** The connection broke after the server may have heard the request. */
const LOST = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ERR_STREAM_PREMATURE_CLOSE'];
/** What a server that starts again, or its Redis, says meanwhile. */
const COMING_BACK = [...LOST, 'ECONNREFUSED', 'redis-unavailable'];

/** Tries for limits.insistMsMax after the first lost answer; throws what went wrong last, and at once what was refused. */
export async function insist<T>(send: (headers: Record<string, string>) => Promise<T>): Promise<T> {
  const headers = { 'idempotency-key': randomUUID() };
  let lostAtMs: number | null = null;
  for (;;) {
    try {
      return await send(headers);
    } catch (cause) {
      const passing = lostAtMs === null ? LOST : COMING_BACK;
      if (!codesOf(cause).some((code) => passing.includes(code))) throw cause;
      lostAtMs ??= performance.now();
      if (performance.now() - lostAtMs > limits.insistMsMax) throw cause;
      await new Promise((resolve) => setTimeout(resolve, limits.followPauseMs));
    }
  }
}

/** Its own, and those of what it was caused by. */
function codesOf(thrown: unknown): string[] {
  if (typeof thrown !== 'object' || thrown === null) return [];
  const { code, cause } = thrown as { code?: unknown; cause?: unknown };
  return [...(typeof code === 'string' ? [code] : []), ...codesOf(cause)];
}
