/** Inputs on their way to the server: hashed by streaming, sent only where their content is unknown there. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type { InputFile } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import { eachAtOnce } from '../service/each.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import type { Client } from './client.ts';
import type { LocalInput } from './inputs.ts';
import { visible } from './output.ts';

export type InputClient = Pick<Client, 'hasInput' | 'putInput'>;

/** The inputs as a run names them, in the order given; every content is at the server then. */
export async function uploadInputs(client: InputClient, inputs: LocalInput[]): Promise<InputFile[]> {
  const sent = new Map<string, Promise<void>>();
  return eachAtOnce(inputs, limits.filesAtOnce, async (input) => {
    const sha256 = await withFile(input, (file) => digestOf(file, input));
    let sending = sent.get(sha256);
    if (sending === undefined) {
      sending = sendUnknown(client, input, sha256);
      sent.set(sha256, sending);
    }
    await sending;
    return { path: input.path, sha256, mode: input.mode };
  });
}

async function sendUnknown(client: InputClient, input: LocalInput, sha256: string): Promise<void> {
  if (await client.hasInput(sha256)) return;
  await withFile(input, async (file) => {
    const hash = createHash('sha256');
    let bytes = 0;
    const chunks = (async function* () {
      for await (const chunk of bytesOf(file, input)) {
        hash.update(chunk);
        bytes += chunk.length;
        yield chunk;
      }
    })();
    try {
      const content = input.bytes === 0 ? new Uint8Array(0) : streamOf(chunks);
      await client.putInput({ sha256, bytes: input.bytes, content });
    } catch (thrown) {
      // The server refuses what is not as announced; here it is known why.
      const { size } = await file.stat();
      if (size !== input.bytes || (bytes === input.bytes && hash.digest('hex') !== sha256)) throw changed(input);
      throw thrown;
    }
  });
}

async function digestOf(file: FileHandle, input: LocalInput): Promise<string> {
  const before = await file.stat();
  if (before.size !== input.bytes) throw changed(input);
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of bytesOf(file, input)) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  // Files of /proc tell no size and have content all the same.
  if (bytes === 0 && (await file.read(Buffer.alloc(1), 0, 1, 0)).bytesRead > 0) throw unreadable(input, new Error('it tells no size'));
  const after = await file.stat();
  if (after.size !== before.size || after.mtimeMs !== before.mtimeMs) throw changed(input);
  return hash.digest('hex');
}

/** The file's first `input.bytes` bytes. */
async function* bytesOf(file: FileHandle, input: LocalInput): AsyncGenerator<Buffer> {
  if (input.bytes === 0) return;
  try {
    yield* file.createReadStream({ start: 0, end: input.bytes - 1, autoClose: false });
  } catch (cause) {
    throw unreadable(input, cause);
  }
}

function streamOf(chunks: AsyncGenerator<Buffer>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => void (await chunks.return(undefined)),
    },
    { highWaterMark: 0 },
  );
}

async function withFile<T>(input: LocalInput, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(input.source, 'r').catch((cause) => {
    throw unreadable(input, cause);
  });
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

function unreadable(input: LocalInput, cause: unknown): BuilderError {
  return new BuilderError('no-input', `expected a readable input, got ${visible(input.source)} (${oneLine(cause)})`, { cause });
}

function changed(input: LocalInput): BuilderError {
  return new BuilderError(
    'conflict',
    `expected an input that stays as it is, got ${visible(input.source)}, which changed while it was read`,
  );
}
