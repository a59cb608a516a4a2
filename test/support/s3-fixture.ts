/** An S3 store over a bucket of its own, with what tests need around it: the plain client, and a proxy that makes faults. */
import { randomUUID } from 'node:crypto';
import { Client } from 'minio';
import { openS3Store } from '../../src/artifacts/s3-store.ts';
import type { Store } from '../../src/artifacts/store.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import type { S3Server } from './s3-server.ts';

export interface S3Fixture {
  config: Parameters<typeof openS3Store>[0];
  store: Store;
  /** The wrapped client as it comes. */
  plain: Client;
  proxy: FaultProxy;
  /** Opens a store whose requests pass the proxy, which is without faults before and afterwards. */
  behindProxy(use: (store: Store) => Promise<void>): Promise<void>;
  /** Keys of unfinished uploads. */
  unfinished(): Promise<string[]>;
  /** Removes the bucket and all in it. */
  close(): Promise<void>;
}

export async function openS3Fixture({ endpoint, region, accessKey, secretKey }: S3Server): Promise<S3Fixture> {
  const bucket = `builder-test-${randomUUID()}`;
  const config = { kind: 's3' as const, bucket, endpoint, region, accessKey, secretKey };
  const url = new URL(endpoint);
  const useSSL = url.protocol === 'https:';
  const port = Number(url.port || (useSSL ? 443 : 80));
  const plain = new Client({ endPoint: url.hostname, port, useSSL, region, accessKey, secretKey });
  const store = await openS3Store(config);
  const proxy = await startFaultProxy(endpoint);
  return {
    config,
    store,
    plain,
    proxy,
    behindProxy: async (use) => {
      const other = await openS3Store({ ...config, endpoint: proxy.endpoint });
      try {
        await use(other);
      } finally {
        proxy.set(() => undefined);
        await other.close();
      }
    },
    unfinished: async () => {
      const { uploads } = await plain.listIncompleteUploadsQuery(bucket, 'blobs/', '', '', '');
      return uploads.map((upload) => upload.key);
    },
    close: async () => {
      await store.close();
      await proxy.stop();
      await removeBucket(plain, bucket);
    },
  };
}

export async function removeBucket(client: Client, bucket: string): Promise<void> {
  for (;;) {
    const { objects } = await client.listObjectsV2Query(bucket, '', '', '', 1_000, '');
    if (objects.length === 0) break;
    await client.removeObjects(
      bucket,
      objects.map((object) => object.name ?? ''),
    );
  }
  await client.removeBucket(bucket);
}
