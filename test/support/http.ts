/** Requests to the server of a test's system. */
import { request } from 'node:http';
import type { System } from './system.ts';

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever document came
  json: any;
}

export interface Asking {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Buffer | object;
  /** Null sends none. */
  token?: string | null;
}

/** node:http rather than fetch: it sends any Host header, and follows nothing. */
export function ask(system: Pick<System, 'url' | 'token'>, path: string, o: Asking = {}): Promise<Answer> {
  const isPlain = o.body === undefined || typeof o.body === 'string' || Buffer.isBuffer(o.body);
  const body = isPlain ? (o.body as string | Buffer | undefined) : JSON.stringify(o.body);
  const token = o.token === undefined ? system.token : o.token;
  const headers = {
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    ...(isPlain ? {} : { 'content-type': 'application/json' }),
    ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
    ...o.headers,
  };
  return new Promise((resolve, reject) => {
    const asked = request(new URL(path, system.url), { method: o.method ?? 'GET', headers, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const content = Buffer.concat(chunks);
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          body: content,
          text: content.toString(),
          json: parsed(content.toString()),
        });
      });
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
