/** Reading an object of S3: a stream that ends with an error, never early, when the connection breaks or falls silent. */
import type { IncomingMessage } from 'node:http';
import { type Readable, Transform } from 'node:stream';
import { limits } from '../job/limits.ts';
import type { CallOptions, S3Bucket } from './s3-bucket.ts';
import { silence } from './s3-transport.ts';
import type { ByteRange } from './store.ts';

export interface Reading extends CallOptions {
  range?: ByteRange | undefined;
}

export async function openObject(bucket: S3Bucket, key: string, { range, ...options }: Reading = {}): Promise<Readable> {
  const [offset, length] = range === undefined ? [0, 0] : [range.start, range.end - range.start + 1];
  const response = (await bucket.call((client) => client.getPartialObject(bucket.name, key, offset, length), options)) as IncomingMessage;
  const bytes = Number(response.headers['content-length'] ?? Number.NaN);
  const ranged = response.statusCode === 206 && response.headers['content-range']?.startsWith(`bytes ${offset}-`) === true;
  if (Number.isNaN(bytes) || (range !== undefined && !ranged)) {
    response.destroy();
    throw bucket.fault(new Error(range === undefined ? 'an answer without its length' : 'an answer without the range that was asked for'));
  }
  return countedStream(bucket, response, bytes);
}

function countedStream(bucket: S3Bucket, response: IncomingMessage, bytes: number): Readable {
  let seen = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      seen += chunk.length;
      timer.refresh();
      done(null, chunk);
    },
    flush(done) {
      done(seen === bytes ? null : bucket.fault(new Error(`${seen} of ${bytes} bytes`)));
    },
  });
  // A slow reader holds the connection still as well; only a reader that waits for bytes sees silence.
  response.setTimeout(0);
  const timer = setInterval(() => {
    if (!counted.writableNeedDrain) counted.destroy(bucket.fault(silence()));
  }, limits.s3IdleMsMax);
  timer.unref();
  response.on('error', (cause) => counted.destroy(bucket.fault(cause)));
  counted.on('close', () => {
    clearInterval(timer);
    response.destroy();
  });
  return response.pipe(counted);
}
