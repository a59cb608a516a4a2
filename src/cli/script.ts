/** A script as a command names it: a file, or `-` for standard input. */
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { limits } from '../job/limits.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import type { Io } from './io.ts';
import { visible } from './output.ts';

/** Throws `no-input`, `too-large` beyond limits.scriptBytesMax, `invalid-value` for what is empty or no UTF-8. */
export async function readScript(name: string, io: Pick<Io, 'stdin' | 'cwd'>): Promise<string> {
  const shown = name === '-' ? 'standard input' : visible(name);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of name === '-' ? io.stdin : createReadStream(resolve(io.cwd, name))) {
      chunks.push(Buffer.from(chunk));
      bytes += chunk.length;
      if (bytes > limits.scriptBytesMax)
        throw new BuilderError('too-large', `expected a script of at most ${limits.scriptBytesMax} bytes, got more from ${shown}`);
    }
  } catch (cause) {
    if (cause instanceof BuilderError) throw cause;
    throw new BuilderError('no-input', `expected a readable script, got ${shown} (${oneLine(cause)})`, { cause });
  }
  if (bytes === 0) throw new BuilderError('invalid-value', `expected a script that is not empty, got nothing from ${shown}`);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw new BuilderError('invalid-value', `expected a script in UTF-8, got other bytes from ${shown}`, { cause });
  }
}
