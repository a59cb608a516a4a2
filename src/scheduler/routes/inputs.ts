/** Inputs: bytes of any size, stored once per content. */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type BlobSource, ContentMismatch, type Store } from '../../artifacts/store.ts';
import { limits } from '../../job/limits.ts';
import { SHA256_PATTERN } from '../../job/names.ts';
import { BuilderError } from '../../service/errors.ts';
import type { ServerContext } from '../server-context.ts';

const READ_BYTES = 1024 * 1024;

interface Stored {
  sha256: string;
  bytes: number;
  how: 'stored' | 'known';
}

export async function inputRoutes(app: FastifyInstance, { store, config }: ServerContext): Promise<void> {
  app.head<{ Params: { sha256: string } }>('/inputs/:sha256', async (request, reply) => {
    const bytes = SHA256_PATTERN.test(request.params.sha256) ? await store.statBlob(request.params.sha256) : null;
    return bytes === null ? reply.status(404).send() : reply.status(200).header('x-content-bytes', bytes).send();
  });
  await app.register(async (raw) => {
    raw.removeAllContentTypeParsers();
    raw.addContentTypeParser('*', (_, body, done) => done(null, body));
    raw.put('/inputs', async (request, reply) => {
      const { sha256, bytes, how } = await storeInput(store, request, config.store.kind === 'folder');
      return reply.status(how === 'known' ? 200 : 201).send({ sha256, bytes });
    });
  });
}

/**
 * Straight to the store where digest and length are declared and the store reads once; else by way of a file, since a blob's name
 * must be known first, and a store far away may read again.
 */
async function storeInput(store: Store, request: FastifyRequest, readsOnce: boolean): Promise<Stored> {
  const body = request.body instanceof Readable ? request.body : Readable.from([]);
  const declared = request.headers['x-content-sha256'];
  const length = request.headers['content-length'];
  if (Number(length ?? 0) > limits.inputBytesMax) throw tooLarge(`${length}`);
  if (typeof declared === 'string') {
    if (!SHA256_PATTERN.test(declared))
      throw new BuilderError('invalid-value', 'expected X-Content-SHA256 of 64 hexadecimal digits, got something else');
    if (length !== undefined && readsOnce) return put(store, { sha256: declared, bytes: Number(length), open: once(body) }, body);
  }
  return throughFile(store, body, typeof declared === 'string' ? declared : null);
}

async function put(store: Store, source: BlobSource, body: Readable): Promise<Stored> {
  try {
    const how = await store.putBlob(source);
    // What is known already is read to its end, so that the answer finds a client that listens.
    if (how === 'known') for await (const _ of body);
    return { sha256: source.sha256, bytes: source.bytes, how };
  } catch (cause) {
    if (cause instanceof ContentMismatch)
      throw new BuilderError('invalid-value', `expected the content that was declared: ${cause.message}`, { cause });
    throw cause;
  }
}

async function throughFile(store: Store, body: Readable, declared: string | null): Promise<Stored> {
  const file = await namelessFile();
  try {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limits.inputBytesMax) throw tooLarge('more');
      hash.update(chunk);
      await file.appendFile(chunk);
    }
    const sha256 = hash.digest('hex');
    if (declared !== null && declared !== sha256)
      throw new BuilderError('invalid-value', `expected content with SHA-256 ${declared}, got ${sha256}`);
    const content = (): Readable => (bytes === 0 ? Readable.from([]) : contentOf(file, bytes));
    return await put(store, { sha256, bytes, open: content }, Readable.from([]));
  } finally {
    await file.close();
  }
}

function contentOf(file: FileHandle, bytes: number): Readable {
  return file.createReadStream({ start: 0, end: bytes - 1, autoClose: false, highWaterMark: READ_BYTES });
}

/** A file without a name: whatever ends the server, nothing stays behind. */
async function namelessFile(): Promise<FileHandle> {
  const path = join(tmpdir(), `builder-input-${randomUUID()}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  return file;
}

/** A body can be read once; a store that wants it again must ask the producer for it. */
function once(body: Readable): () => Readable {
  let taken = false;
  return () => {
    if (taken)
      throw new BuilderError('store-unavailable', 'expected the store to take the input at once, got a fault of it; send it again');
    taken = true;
    return body;
  };
}

function tooLarge(got: string): BuilderError {
  return new BuilderError('too-large', `expected an input of at most ${limits.inputBytesMax} bytes, got ${got}`);
}
