/**
 * One HTTP request by node:http. The global fetch of Node 20 never settles when a server accepts a connection and closes it,
 * which is what one that is just being stopped does.
 */
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { limits } from '../job/limits.ts';

export interface RequestOptions {
  method: string;
  headers: Record<string, string>;
  body?: string | Uint8Array | ReadableStream<Uint8Array>;
  signal?: AbortSignal;
  /** A connection on which nothing comes for so long is given up; where it is not given, once its other end answers the kernel no more. */
  silenceMs?: number;
}

/** Node's own stream in the place of the Response of fetch, which takes the processor as long as the rest of a small request. */
export interface Answer {
  status: number;
  /** A success. */
  ok: boolean;
  body: AsyncIterable<Uint8Array>;
  /** All of the body; it is read once. */
  text(): Promise<string>;
}

/** Resolves with the answer, its body unread; redirects are answers like others. Rejects with what went wrong, or the signal's reason. */
export async function requestOnce(url: URL, o: RequestOptions): Promise<Answer> {
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

function attempt(url: URL, o: RequestOptions, reuse: boolean): Promise<Answer> {
  const { request } = url.protocol === 'https:' ? https : http;
  const isPlain = o.body === undefined || typeof o.body === 'string' || o.body instanceof Uint8Array;
  return new Promise((resolve, reject) => {
    const asked = request(url, {
      method: o.method,
      headers: o.headers,
      // A body that can be sent once only gets a connection of its own.
      ...(reuse && isPlain ? {} : { agent: false }),
      ...(o.signal === undefined ? {} : { signal: o.signal }),
      ...(o.silenceMs === undefined ? {} : { timeout: o.silenceMs }),
    });
    // A machine that lost its power says nothing of it.
    asked.setSocketKeepAlive(true, limits.deadPeerMs);
    let answer: http.IncomingMessage | null = null;
    asked.once('response', (message) => {
      answer = message;
      resolve(answerOf(message));
    });
    const { silenceMs } = o;
    if (silenceMs !== undefined) {
      whenSilent(asked, (socket) => {
        // What has come and is not taken yet waits for whoever reads it, who may be a person with a pager.
        if (answer !== null && (answer.complete || answer.readableLength > 0)) socket.setTimeout(silenceMs);
        else (answer ?? asked).destroy(new Error(`nothing came for ${silenceMs / 1000} s`));
      });
    }
    asked.on('error', (cause: NodeJS.ErrnoException) => {
      if (o.signal?.aborted) reject(o.signal.reason);
      else reject(asked.reusedSocket && cause.code === 'ECONNRESET' ? new StaleConnection(cause.message, { cause }) : cause);
    });
    if (isPlain) asked.end(o.body);
    // Where the answer comes before all is sent, it is the answer that counts; its error has been heard above.
    else pipeline(Readable.fromWeb(o.body as ReadableStream<Uint8Array>), asked).catch(reject);
  });
}

/** By the socket's own event: the request passes it on once, and none that the agent has set for connections that nobody uses. */
function whenSilent(asked: http.ClientRequest, act: (socket: Socket) => void): void {
  asked.once('socket', (socket) => {
    const tell = (): void => act(socket);
    socket.on('timeout', tell);
    asked.once('close', () => socket.off('timeout', tell));
  });
}

function answerOf(message: http.IncomingMessage): Answer {
  const status = message.statusCode ?? 0;
  return { status, ok: status >= 200 && status <= 299, body: message, text: () => text(message) };
}
