/** One bucket of an S3 endpoint through the minio client: every call retried, bounded and told as a BuilderError. */
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'minio';
import { limits } from '../job/limits.ts';
import type { StoreConfig } from '../service/config.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { asStoreFault, isPassing } from './s3-fault.ts';
import { createS3Transport } from './s3-transport.ts';

export type S3Config = Extract<StoreConfig, { kind: 's3' }>;

export interface CallOptions {
  /** Ends the call; it then throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Default `limits.s3TriesMax`. */
  triesMax?: number;
}

export interface PutOptions extends CallOptions {
  /** Only where there is no object of that key. A server that does not know of conditions puts it in any case, or refuses. */
  onlyNew?: boolean;
}

export interface S3Bucket {
  name: string;
  region: string;
  /** Bucket and endpoint for people; holds no secret. */
  label: string;
  /** Runs `work`, again after faults that may pass; `work` must be repeatable. Throws BuilderError, or the signal's reason. */
  call<T>(work: (client: Client) => Promise<T>, options?: CallOptions): Promise<T>;
  /** One PUT, which is atomic. The client's own `putObject` would take up unfinished uploads of others for larger ones. */
  put(key: string, content: Buffer, options?: PutOptions): Promise<void>;
  /** Bytes of an object, or null. */
  stat(key: string): Promise<number | null>;
  fault(thrown: unknown): BuilderError;
  endpointNow(): number;
  close(): void;
}

/** Throws `bad-config` for an endpoint that the client cannot take; connects to nothing yet. */
export function connectBucket(config: S3Config): S3Bucket {
  const url = new URL(config.endpoint);
  const transport = createS3Transport(url.protocol === 'https:');
  const label = `s3://${config.bucket} at ${url.origin}`;
  const clientFor = (signal?: AbortSignal): Client => createClient({ config, url, agent: transport.agent, http: transport.under(signal) });
  const plain = clientFor();
  /** A client takes longer to make than a small request. */
  const clients = new WeakMap<AbortSignal, Client>();
  const clientUnder = (signal: AbortSignal): Client => {
    const client = clients.get(signal) ?? clientFor(signal);
    clients.set(signal, client);
    return client;
  };
  const fault = (thrown: unknown): BuilderError => asStoreFault(thrown, label, transport.endpointNow() - Date.now());
  const call: S3Bucket['call'] = async (work, { signal, triesMax = limits.s3TriesMax } = {}) => {
    const client = signal === undefined ? plain : clientUnder(signal);
    for (let tries = 1; ; tries++) {
      signal?.throwIfAborted();
      try {
        return await work(client);
      } catch (thrown) {
        signal?.throwIfAborted();
        if (tries >= triesMax || !isPassing(thrown)) throw fault(thrown);
        // Half of the pause is left to chance, so that many workers do not come back in step.
        const pauseMs = Math.min(limits.s3RetryPauseMs * 2 ** (tries - 1), limits.s3RetryPauseMsMax) * (0.5 + Math.random() / 2);
        await pause(pauseMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
      }
    }
  };
  return {
    name: config.bucket,
    region: config.region,
    label,
    call,
    put: async (key, content, { onlyNew = false, ...options } = {}) => {
      const request = { method: 'PUT', bucketName: config.bucket, objectName: key };
      const headers = (): Record<string, string> => (onlyNew ? { 'if-none-match': '*' } : {});
      await call((client) => client.makeRequestAsyncOmit({ ...request, headers: headers() }, content), options);
    },
    stat: async (key) => {
      try {
        return await call(async (client) => (await client.statObject(config.bucket, key)).size);
      } catch (thrown) {
        if (thrown instanceof BuilderError && thrown.code === 'not-found') return null;
        throw thrown;
      }
    },
    fault,
    endpointNow: transport.endpointNow,
    close: transport.close,
  };
}

interface ClientParts {
  config: S3Config;
  url: URL;
  agent: import('node:http').Agent;
  http: Pick<typeof import('node:http'), 'request'>;
}

function createClient({ config, url, agent, http }: ClientParts): Client {
  if (url.pathname !== '/' || url.username !== '' || url.search !== '') {
    throw new BuilderError(
      'bad-config',
      `BUILDER_S3_ENDPOINT: expected a URL of a host alone such as http://minio:9000, got ${url.origin} and more`,
    );
  }
  const secure = url.protocol === 'https:';
  try {
    return new Client({
      endPoint: url.hostname,
      port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
      useSSL: secure,
      region: config.region,
      accessKey: config.accessKey,
      secretKey: config.secretKey,
      pathStyle: true,
      transport: http,
      transportAgent: agent,
      // The client's retry knows neither resets nor signals, and writes to the console.
      retryOptions: { disableRetry: true },
    });
  } catch (cause) {
    throw new BuilderError('bad-config', `BUILDER_S3_ENDPOINT: expected a host name or address, got ${url.hostname} (${oneLine(cause)})`, {
      cause,
    });
  }
}
