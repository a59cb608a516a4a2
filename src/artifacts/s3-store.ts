/** The store in a bucket of any S3-compatible server: what a pool of workers shares. */
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { limits } from '../job/limits.ts';
import { BuilderError } from '../service/errors.ts';
import { createGate } from '../service/gate.ts';
import { contentInMemory } from './checked-content.ts';
import { checkDigest, checkDocumentKey, checkDocumentPrefix, inByteOrder } from './keys.ts';
import { type CallOptions, connectBucket, type S3Bucket, type S3Config } from './s3-bucket.ts';
import { faultCode } from './s3-fault.ts';
import { openBucket } from './s3-opening.ts';
import { openObject } from './s3-reading.ts';
import { upload } from './s3-upload.ts';
import { type ByteRange, blobKey, type Store } from './store.ts';

/** The object that `check` writes and reads; its content is always the same, so checks do not disturb one another. */
const HEALTH = { key: 'health', content: Buffer.from('builder') };

/** Makes the bucket where it is missing; throws `store-unavailable` or `bad-config`. */
export async function openS3Store(config: S3Config): Promise<Store> {
  const bucket = connectBucket(config);
  try {
    await openBucket(bucket);
    return createStore(bucket);
  } catch (cause) {
    bucket.close();
    throw cause;
  }
}

function createStore(bucket: S3Bucket): Store {
  const inTurn = createGate(limits.s3UploadsMax);
  const putBlob: Store['putBlob'] = async (source, signal) => {
    checkDigest(source.sha256);
    signal?.throwIfAborted();
    const key = blobKey(source.sha256);
    const content = contentInMemory(source);
    if (content !== null && (await putNew(bucket, key, content, signal))) return 'stored';
    // An object of another length is damage; writing it anew heals it.
    if ((await bucket.stat(key)) === source.bytes) return 'known';
    await inTurn(() => {
      signal?.throwIfAborted();
      return upload({ bucket, key, source, signal });
    });
    return 'stored';
  };
  return {
    statBlob: async (sha256) => {
      checkDigest(sha256);
      return bucket.stat(blobKey(sha256));
    },
    putBlob,
    // What the server has answered for is durable.
    openBatch: () => ({ putBlob, settle: async () => undefined }),
    getBlob: async (sha256, range) => {
      checkDigest(sha256);
      return openBlob(bucket, sha256, range);
    },
    putDocument: async (key, content) => {
      checkDocumentKey(key);
      await bucket.put(escaped(key), content);
    },
    getDocument: async (key) => {
      checkDocumentKey(key);
      return readObject(bucket, escaped(key));
    },
    listDocuments: async (prefix) => {
      checkDocumentPrefix(prefix);
      return inByteOrder((await listKeys(bucket, escaped(prefix))).map(unescaped));
    },
    removeDocument: async (key) => {
      checkDocumentKey(key);
      await bucket.call((client) => client.removeObject(bucket.name, escaped(key))).catch(unlessMissing);
    },
    check: async () => checkHealth(bucket),
    close: async () => bucket.close(),
  };
}

/** What a server says that has the object already, that is putting it for somebody else, or that knows of no conditions. */
const NOT_PUT = new Set(['PreconditionFailed', 'ConditionalRequestConflict', 'NotImplemented', 'InvalidArgument']);

/** Where the content is at hand one request tells whether it is new and puts it; false where it must be looked at. */
async function putNew(bucket: S3Bucket, key: string, content: Buffer, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await bucket.put(key, content, { signal, onlyNew: true });
    return true;
  } catch (thrown) {
    if (thrown instanceof BuilderError && NOT_PUT.has(faultCode(thrown))) return false;
    throw thrown;
  }
}

async function checkHealth(bucket: S3Bucket): Promise<void> {
  const signal = AbortSignal.timeout(limits.storeCheckMsMax);
  try {
    await bucket.put(HEALTH.key, HEALTH.content, { signal, triesMax: 2 });
    const found = await readObject(bucket, HEALTH.key, { signal, triesMax: 2 });
    if (found === null || !HEALTH.content.equals(found)) throw new Error('other content than was written');
  } catch (thrown) {
    throw bucket.fault(signal.aborted ? new Error(`no answer within ${limits.storeCheckMsMax / 1000} s`) : thrown);
  }
}

async function openBlob(bucket: S3Bucket, sha256: string, range?: ByteRange): Promise<Readable> {
  if (range !== undefined && range.end < range.start) {
    throw new BuilderError('range-not-satisfiable', `expected a range, got ${range.start}-${range.end}`);
  }
  try {
    return await openObject(bucket, blobKey(sha256), { range });
  } catch (thrown) {
    if (!(thrown instanceof BuilderError) || thrown.code !== 'not-found') throw thrown;
    throw new BuilderError('not-found', `expected a known blob, got ${sha256}`, { cause: thrown });
  }
}

async function readObject(bucket: S3Bucket, key: string, options: CallOptions = {}): Promise<Buffer | null> {
  try {
    return await buffer(await openObject(bucket, key, options));
  } catch (thrown) {
    unlessMissing(thrown);
    return null;
  }
}

/** Goes on from the last key of each page: unlike the server's token, the client parses it as the text that it is. */
async function listKeys(bucket: S3Bucket, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for (;;) {
    const page = await bucket.call((client) => client.listObjectsV2Query(bucket.name, prefix, '', '', 1000, keys.at(-1) ?? ''));
    for (const { name } of page.objects) if (name !== undefined) keys.push(name);
    if (!page.isTruncated || page.objects.length === 0) return keys;
  }
}

/**
 * Servers and the client disagree on how keys are encoded in listings; letters, digits and `._-/` survive all of them,
 * so any other byte travels as `=` and two hexadecimal digits.
 */
function escaped(key: string): string {
  return key.replace(/[^A-Za-z0-9._/-]/gu, (char) => Buffer.from(char).toString('hex').toUpperCase().replace(/../g, '=$&'));
}

function unescaped(key: string): string {
  return decodeURIComponent(key.replaceAll('=', '%'));
}

function unlessMissing(thrown: unknown): void {
  if (!(thrown instanceof BuilderError) || thrown.code !== 'not-found') throw thrown;
}
