/** Reading what a script may have put in the place of a file of the worker's: no link is followed, no pipe waited for. */
import { constants, type FileHandle, open } from 'node:fs/promises';
import { codeOf } from '../src/artifacts/durable-files.ts';
import { BuilderError } from '../src/service/errors.ts';

/** Throws BuilderError `damaged` for what is no regular file, or cannot be read. */
export async function openRegular(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((cause) => {
    throw notRegular(path, codeOf(cause), cause);
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw notRegular(path, 'something else');
}

/** The text of a small file; null for what is not there, no regular file, or larger. */
export async function readRegular(path: string, bytesMax: number): Promise<string | null> {
  const file = await openRegular(path).catch(() => null);
  if (file === null) return null;
  try {
    return (await file.stat()).size > bytesMax ? null : await file.readFile('utf8');
  } catch {
    return null;
  } finally {
    await file.close();
  }
}

function notRegular(path: string, got: string, cause?: unknown): BuilderError {
  return new BuilderError('damaged', `expected a regular file at ${path}, got ${got}`, { cause });
}
