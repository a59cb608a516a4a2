/** HTTP under the minio client: one pool of connections, faults that keep their code, a bound on silence. */
import http, { type ClientRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import https from 'node:https';
import { limits } from '../job/limits.ts';
import { S3Refusal } from './s3-fault.ts';

export interface S3Transport {
  agent: http.Agent;
  /** What the client calls in place of `http` or `https`; every request ends when the signal is aborted. */
  under(signal: AbortSignal | undefined): Pick<typeof http, 'request'>;
  /** Now, by the endpoint's clock as its last answer told it: ages of its objects compare with no other. */
  endpointNow(): number;
  close(): void;
}

const ERROR_BODY_BYTES_MAX = 64 * 1024;

export function createS3Transport(secure: boolean): S3Transport {
  const base = secure ? https : http;
  const agent = new base.Agent({ keepAlive: true, maxSockets: limits.s3ConnectionsMax });
  let clockOffsetMs = 0;
  const request = (options: RequestOptions, answered: (response: IncomingMessage) => void, signal: AbortSignal | undefined) => {
    const sent = base.request({ ...options, timeout: limits.s3IdleMsMax, ...(signal === undefined ? {} : { signal }) });
    sent.on('timeout', () => sent.destroy(silence()));
    sent.on('response', (response) => {
      const dateMs = Date.parse(response.headers.date ?? '');
      if (!Number.isNaN(dateMs)) clockOffsetMs = dateMs - Date.now();
      const status = response.statusCode ?? 0;
      if (status === 408 || status === 429 || (status >= 500 && status !== 501)) void refuse(sent, response);
      else answered(response);
    });
    return sent;
  };
  return {
    agent,
    under: (signal) => ({
      // The client calls this one shape of http.request only.
      request: ((options: RequestOptions, answered: (response: IncomingMessage) => void) =>
        request(options, answered, signal)) as typeof http.request,
    }),
    endpointNow: () => Date.now() + clockOffsetMs,
    close: () => agent.destroy(),
  };
}

/** The fault of an endpoint that has fallen silent; its code makes it one that may pass. */
export function silence(): Error {
  return Object.assign(new Error(`nothing for ${limits.s3IdleMsMax / 1000} s`), { code: 'ETIMEDOUT' });
}

/** Reads the answer's code, then fails the request with it. */
async function refuse(sent: ClientRequest, response: IncomingMessage): Promise<void> {
  let body = '';
  try {
    for await (const chunk of response) {
      body += chunk;
      if (body.length > ERROR_BODY_BYTES_MAX) break;
    }
  } catch {
    // The status is answer enough.
  }
  sent.emit('error', new S3Refusal(response.statusCode ?? 0, /<Code>(\w{1,100})<\/Code>/.exec(body)?.[1] ?? ''));
  // A body that is still being sent has no reader any more.
  if (!sent.writableFinished) sent.destroy();
}
