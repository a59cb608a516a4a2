/** One S3 server for all contenders of a figure: started by the first that opens it, stopped by the last that closes it. */
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { Client } from 'minio';
import { removeBucket } from '../../test/support/s3-fixture.ts';
import { type S3Server, startS3Server } from '../../test/support/s3-server.ts';
import { Missing } from '../figure.ts';

export interface SharedS3 {
  server: S3Server;
  /** The minio client as it comes, but for the size of its parts. */
  clientOf(partBytes: number): Client;
  /** A name for a bucket, which is removed with all in it after the work. */
  withBucket<T>(work: (bucket: string) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** The minio client's own choice. */
export const CLIENT_PART_BYTES = 64 * 1024 * 1024;

/** What the first upload to a new server has to wait for is nobody's: it is so long that the client sends it in parts. */
const WARM_UP_PIECE = Buffer.alloc(16 * 1024 * 1024);
const WARM_UP_PIECES = 32;

let started: Promise<S3Server | null> | null = null;
let users = 0;

/** Throws Missing where no S3 server can be had. */
export async function openSharedS3(): Promise<SharedS3> {
  started ??= startS3Server();
  const server = await started;
  if (server === null) {
    started = null;
    throw new Missing('no S3 server: apt-get install radosgw ceph-mon ceph-osd ceph-common, or minio on the PATH');
  }
  users += 1;
  const isFirst = users === 1;
  const client = clientOf(server, CLIENT_PART_BYTES);
  const withBucket: SharedS3['withBucket'] = async (work) => {
    const bucket = `builder-bench-${randomUUID()}`;
    await client.makeBucket(bucket, server.region);
    try {
      return await work(bucket);
    } finally {
      await removeBucket(client, bucket);
    }
  };
  if (isFirst) await withBucket((bucket) => warmUp(client, bucket));
  return {
    server,
    clientOf: (partBytes) => clientOf(server, partBytes),
    withBucket,
    close: async () => {
      users -= 1;
      if (users > 0) return;
      started = null;
      await server.stop();
    },
  };
}

function clientOf({ endpoint, region, accessKey, secretKey }: S3Server, partSize: number): Client {
  const { hostname, port, protocol } = new URL(endpoint);
  const useSSL = protocol === 'https:';
  return new Client({ endPoint: hostname, port: Number(port || (useSSL ? 443 : 80)), useSSL, region, accessKey, secretKey, partSize });
}

function warmUp(client: Client, bucket: string): Promise<unknown> {
  const pieces = Readable.from(Array(WARM_UP_PIECES).fill(WARM_UP_PIECE));
  return client.putObject(bucket, 'warm-up', pieces, WARM_UP_PIECES * WARM_UP_PIECE.length);
}
