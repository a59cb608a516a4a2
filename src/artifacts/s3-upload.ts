/** Uploads of checked content to S3: nothing is visible before all of it is there and right, nothing is left unfinished. */
import { limits } from '../job/limits.ts';
import { checkedContent, contentInMemory } from './checked-content.ts';
import type { S3Bucket } from './s3-bucket.ts';
import { faultCode } from './s3-fault.ts';
import type { BlobSource } from './store.ts';

export interface Upload {
  bucket: S3Bucket;
  key: string;
  source: BlobSource;
  signal?: AbortSignal | undefined;
}

/** Content of one part is checked in memory and sent at once; larger content goes part by part, one of them in memory. */
export async function upload(options: Upload): Promise<void> {
  return options.source.bytes <= limits.s3PartBytes ? uploadWhole(options) : uploadInParts(options);
}

async function uploadWhole({ bucket, key, source, signal }: Upload): Promise<void> {
  await bucket.put(key, contentInMemory(source) ?? (await readWhole(source, signal)), { signal });
}

async function readWhole(source: BlobSource, signal: AbortSignal | undefined): Promise<Buffer> {
  const content = Buffer.allocUnsafe(source.bytes);
  let filled = 0;
  for await (const chunk of checkedContent(source, signal)) filled += chunk.copy(content, filled);
  return content;
}

interface Part {
  part: number;
  etag: string;
}

/** The client's own loop shares unfinished uploads of one key between uploaders and cannot be ended: this one does neither. */
async function uploadInParts({ bucket, key, source, signal }: Upload): Promise<void> {
  // Not ended by the signal: an upload whose id never arrived could not be aborted.
  const uploadId = await bucket.call((client) => client.initiateNewMultipartUpload(bucket.name, key, {}));
  try {
    const parts = await sendParts({ bucket, key, source, signal }, uploadId);
    signal?.throwIfAborted();
    await complete({ bucket, key, source }, uploadId, parts);
  } catch (thrown) {
    // Where even this fails the sweep at a later start finds it; the first fault is the one to tell.
    await bucket.call((client) => client.abortMultipartUpload(bucket.name, key, encodeURIComponent(uploadId))).catch(() => undefined);
    throw thrown;
  }
}

async function sendParts({ bucket, key, source, signal }: Upload, uploadId: string): Promise<Part[]> {
  const parts: Part[] = [];
  const buffer = Buffer.allocUnsafe(partBytes(source.bytes));
  let filled = 0;
  const send = async (content: Buffer): Promise<void> => {
    const part = { bucketName: bucket.name, objectName: key, uploadID: encodeURIComponent(uploadId), partNumber: parts.length + 1 };
    parts.push(await bucket.call((client) => client.uploadPart({ ...part, headers: {} }, content), { signal }));
  };
  for await (const chunk of checkedContent(source, signal)) {
    for (let taken = 0; taken < chunk.length; ) {
      const copied = chunk.copy(buffer, filled, taken);
      taken += copied;
      filled += copied;
      if (filled === buffer.length) {
        await send(buffer);
        filled = 0;
      }
    }
  }
  if (filled > 0) await send(buffer.subarray(0, filled));
  return parts;
}

async function complete({ bucket, key, source }: Upload, uploadId: string, parts: Part[]): Promise<void> {
  try {
    await bucket.call((client) => client.completeMultipartUpload(bucket.name, key, uploadId, parts));
  } catch (thrown) {
    // After a lost answer the repeated request finds the upload gone because the first has completed it.
    if (faultCode(thrown) === 'NoSuchUpload' && (await bucket.stat(key)) === source.bytes) return;
    throw thrown;
  }
}

/** A file of more than `s3PartsMax` parts gets larger ones, in whole MiB. */
function partBytes(bytes: number): number {
  const mib = 1024 * 1024;
  return Math.max(limits.s3PartBytes, Math.ceil(bytes / limits.s3PartsMax / mib) * mib);
}
