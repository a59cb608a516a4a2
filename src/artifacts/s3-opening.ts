/** The start of the S3 store: wait for the endpoint, make the bucket, sweep what crashes left. */
import { setTimeout as pause } from 'node:timers/promises';
import { limits } from '../job/limits.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import type { S3Bucket } from './s3-bucket.ts';
import { faultCode, isPassing } from './s3-fault.ts';

const RETRY_MS = 200;

/** Waits for the endpoint at most `limits.startWaitMs`; throws `store-unavailable` on one line. */
export async function openBucket(bucket: S3Bucket): Promise<void> {
  const patience = AbortSignal.timeout(limits.startWaitMs);
  let last: unknown = new Error('no answer');
  for (;;) {
    try {
      await ensureBucket(bucket, patience);
      break;
    } catch (thrown) {
      if (patience.aborted) {
        const waited = `within ${limits.startWaitMs / 1000} s`;
        const message = `expected the store ${bucket.label} (BUILDER_S3_ENDPOINT) to answer ${waited}, got ${oneLine(last)}`;
        throw new BuilderError('store-unavailable', message, { cause: last });
      }
      if (!(thrown instanceof BuilderError) || !isPassing(thrown.cause)) throw thrown;
      last = thrown.cause;
      await pause(RETRY_MS);
    }
  }
  // A server that cannot list uploads, or a hiccup now, costs space only.
  await sweepUploads(bucket).catch(() => undefined);
}

async function ensureBucket(bucket: S3Bucket, signal: AbortSignal): Promise<void> {
  if (await exists(bucket, signal)) return;
  try {
    await bucket.call((client) => client.makeBucket(bucket.name, bucket.region), { signal, triesMax: 1 });
  } catch (thrown) {
    // Another program may have made it since.
    if (!/^BucketAlready/.test(faultCode(thrown)) || !(await exists(bucket, signal))) throw thrown;
  }
}

/** A listing tells wrong keys from a missing bucket, which the client's HEAD does not. */
async function exists(bucket: S3Bucket, signal: AbortSignal): Promise<boolean> {
  try {
    await bucket.call((client) => client.listObjectsV2Query(bucket.name, 'health', '', '', 1, ''), { signal, triesMax: 1 });
    return true;
  } catch (thrown) {
    if (faultCode(thrown) === 'NoSuchBucket') return false;
    throw thrown;
  }
}

/** Aborts unfinished uploads older than `limits.storeLeftoverMs`, by the endpoint's clock. */
async function sweepUploads(bucket: S3Bucket): Promise<void> {
  for (let marker = ''; ; ) {
    const page = await bucket.call((client) => client.listIncompleteUploadsQuery(bucket.name, 'blobs/', marker, '', ''));
    for (const { key, uploadId, initiated } of page.uploads) {
      if (bucket.endpointNow() - initiated.getTime() < limits.storeLeftoverMs) continue;
      const id = encodeURIComponent(String(uploadId));
      await bucket.call((client) => client.abortMultipartUpload(bucket.name, key, id)).catch(() => undefined);
    }
    if (!page.isTruncated || page.nextKeyMarker === marker) return;
    marker = page.nextKeyMarker;
  }
}
