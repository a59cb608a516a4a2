/** Requests to the server: addresses, the token, errors in one line. */

import { Problem } from '../job/api.ts';
import { limits } from '../job/limits.ts';
import { BuilderError, CATALOGUE, type ErrorCode, oneLine } from '../service/errors.ts';
import type { Access } from './client-config.ts';
import { type Answer, type RequestOptions, requestOnce } from './http-request.ts';

export interface Call {
  method?: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  /** Below `/api/v1/`; its steps already encoded. */
  path: string;
  query?: Record<string, string | undefined>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as they are. */
  bytes?: { content: ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer>; length: number };
  headers?: Record<string, string>;
  /** A status that is an answer too, beside success. */
  accept?: number;
  signal?: AbortSignal;
}

export interface Transport {
  /** The answer's body, parsed; `null` for an empty one. Gives up after limits.clientAnswerMsMax. */
  json(call: Call): Promise<unknown>;
  /** The answer with its body unread; of a GET or HEAD each pause is at most limits.clientSilenceMsMax, else there is no bound in time. Throws unless it is a success. */
  send(call: Call): Promise<Answer>;
  /** What went wrong while an answer's body was read, in one line. */
  broken(cause: unknown): BuilderError;
}

export function createTransport(access: Access): Transport {
  const broken = (cause: unknown): BuilderError => unreachable(access, cause);
  const send = async (call: Call): Promise<Answer> => {
    const response = await request(access, call);
    if (!response.ok && response.status !== call.accept) throw await problemOf(access, response);
    return response;
  };
  return {
    send,
    broken,
    json: async (call) => {
      const timeout = AbortSignal.timeout(limits.clientAnswerMsMax);
      const response = await send({ ...call, signal: call.signal === undefined ? timeout : AbortSignal.any([call.signal, timeout]) });
      const text = await response.text().catch((cause) => {
        throw broken(cause);
      });
      return text === '' ? null : parseAnswer(access, text);
    },
  };
}

/** Steps of an API path, each escaped: `step('runs', id)`. */
export function steps(...parts: string[]): string {
  return parts.map(encodeURIComponent).join('/');
}

async function request(access: Access, call: Call): Promise<Answer> {
  const url = new URL(`${access.server}/api/v1/${call.path}`);
  for (const [name, value] of Object.entries(call.query ?? {})) if (value !== undefined) url.searchParams.set(name, value);
  const headers: Record<string, string> = { accept: 'application/json', ...call.headers };
  if (access.token !== undefined) headers.authorization = `Bearer ${access.token}`;
  let body: RequestOptions['body'];
  if (call.bytes !== undefined) {
    headers['content-type'] = 'application/octet-stream';
    headers['content-length'] = String(call.bytes.length);
    body = call.bytes.content as RequestOptions['body'];
  } else if (call.body !== undefined) {
    headers['content-type'] = 'application/json';
    body = JSON.stringify(call.body);
    headers['content-length'] = String(Buffer.byteLength(body));
  }
  const method = call.method ?? 'GET';
  try {
    return await requestOnce(url, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
      // What is sent may take the server long to store, of which it says nothing.
      ...(method === 'GET' || method === 'HEAD' ? { silenceMs: limits.clientSilenceMsMax } : {}),
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
  } catch (cause) {
    throw unreachable(access, cause);
  }
}

function unreachable({ server }: Access, thrown: unknown): BuilderError {
  if (thrown instanceof BuilderError) return thrown;
  const cause = thrown instanceof Error && thrown.cause !== undefined ? thrown.cause : thrown;
  const why =
    thrown instanceof Error && thrown.name === 'TimeoutError' ? `no answer within ${limits.clientAnswerMsMax / 1000} s` : oneLine(cause);
  return new BuilderError('unreachable', `expected a server at ${server}, got: ${why} (\`builder up\` starts one)`, { cause: thrown });
}

/** The server's own words where it is builder's; of anything else its status. */
async function problemOf(access: Access, response: Answer): Promise<BuilderError> {
  const text = await response.text().catch(() => '');
  if (response.status === 401) return new BuilderError('unauthorized', unauthorized(access));
  const problem = Problem.safeParse(tryJson(text));
  if (problem.success) {
    const { code, detail, status } = problem.data;
    return new BuilderError(Object.hasOwn(CATALOGUE, code) ? (code as ErrorCode) : codeOf(status), detail.replace(/\s*\n\s*/g, ' '));
  }
  return new BuilderError(codeOf(response.status), `expected a builder server at ${access.server}, got status ${response.status}`);
}

function unauthorized({ server, token, tokenFrom }: Access): string {
  if (token === undefined) return `expected a token for ${server} (--token, BUILDER_TOKEN or its client.json), got none`;
  return `expected a token that ${server} knows, got another from ${tokenFrom}`;
}

function codeOf(status: number): ErrorCode {
  if (status === 403) return 'forbidden';
  if (status === 413) return 'too-large';
  return 'unreachable';
}

function parseAnswer(access: Access, text: string): unknown {
  const value = tryJson(text);
  if (value === undefined)
    throw new BuilderError('unreachable', `expected a builder server at ${access.server}, got an answer that is not JSON`);
  return value;
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
