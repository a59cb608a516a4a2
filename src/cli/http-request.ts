/**
 * One HTTP request by node:http. The global fetch of Node 20 never settles when a server accepts a connection and closes it,
 * which is what one that is just being stopped does.
 */
import http from 'node:http';
import https from 'node:https';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';

export interface RequestOptions {
  method: string;
  headers: Record<string, string>;
  body?: string | Uint8Array | ReadableStream<Uint8Array>;
  signal?: AbortSignal;
}

const WITHOUT_BODY = new Set([204, 205, 304]);

/** Resolves with the answer, its body unread; redirects are answers like others. Rejects with what went wrong, or the signal's reason. */
export async function requestOnce(url: URL, o: RequestOptions): Promise<Response> {
  try {
    return await attempt(url, o, true);
  } catch (cause) {
    o.signal?.throwIfAborted();
    // A kept connection may have been closed by the server in the very moment that it was taken again.
    if (!(cause instanceof StaleConnection)) throw cause;
    return attempt(url, o, false);
  }
}

class StaleConnection extends Error {}

function attempt(url: URL, o: RequestOptions, reuse: boolean): Promise<Response> {
  const { request } = url.protocol === 'https:' ? https : http;
  const isPlain = o.body === undefined || typeof o.body === 'string' || o.body instanceof Uint8Array;
  return new Promise((resolve, reject) => {
    const asked = request(url, {
      method: o.method,
      headers: o.headers,
      // A body that can be sent once only gets a connection of its own.
      ...(reuse && isPlain ? {} : { agent: false }),
      ...(o.signal === undefined ? {} : { signal: o.signal }),
    });
    asked.once('response', (message) => resolve(answerOf(message, o.method)));
    asked.on('error', (cause: NodeJS.ErrnoException) => {
      if (o.signal?.aborted) reject(o.signal.reason);
      else reject(asked.reusedSocket && cause.code === 'ECONNRESET' ? new StaleConnection(cause.message, { cause }) : cause);
    });
    if (isPlain) asked.end(o.body);
    // Where the answer comes before all is sent, it is the answer that counts; its error has been heard above.
    else pipeline(Readable.fromWeb(o.body as ReadableStream<Uint8Array>), asked).catch(reject);
  });
}

function answerOf(message: http.IncomingMessage, method: string): Response {
  const headers = new Headers();
  for (const [name, value] of Object.entries(message.headers)) if (value !== undefined) headers.set(name, String(value));
  const status = message.statusCode ?? 0;
  if (method === 'HEAD' || WITHOUT_BODY.has(status)) {
    message.resume();
    return new Response(null, { status, headers });
  }
  return new Response(Readable.toWeb(message) as unknown as ReadableStream<Uint8Array>, { status, headers });
}
