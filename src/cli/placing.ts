/** Files of a run put into a folder here: never outside it, never half written, never with other content than announced. */
import { createHash, randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, realpath, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Artifact } from '../job/artifact.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { makeFolder as makeFolders } from '../service/make-folder.ts';
import { visible } from './output.ts';

export interface Placing {
  /** Writes one file whole or not at all; throws `damaged` where its bytes are not as announced, and `conflict` where it may not lie. */
  place(artifact: Artifact, content: AsyncIterable<Uint8Array>): Promise<void>;
  /** Takes back the folders that were made and hold nothing. */
  tidy(): Promise<void>;
}

/** The folder itself may be reached through links, because the user named it; below it no link is followed. */
export async function openPlacing(folder: string): Promise<Placing> {
  const made: string[] = [];
  const isNew = await lstat(folder).then(
    () => false,
    () => true,
  );
  await makeFolders(folder).catch((cause) => {
    throw notWritten(folder, cause);
  });
  if (isNew) made.push(folder);
  const root = await realpath(folder);
  const ready = new Map<string, Promise<void>>();
  const folderFor = (path: string): Promise<void> => {
    const known =
      ready.get(path) ?? (path === '.' ? Promise.resolve() : folderFor(dirname(path)).then(() => makeFolder(join(root, path), made)));
    ready.set(path, known);
    return known;
  };
  return {
    place: async (artifact, content) => {
      const parent = dirname(artifact.path);
      await folderFor(parent);
      await placeFile({ folder: join(root, parent), target: join(root, artifact.path), artifact, content });
    },
    tidy: async () => {
      for (const path of made.reverse()) await rmdir(path).catch(() => undefined);
    },
  };
}

interface PlaceFile {
  folder: string;
  target: string;
  artifact: Artifact;
  content: AsyncIterable<Uint8Array>;
}

async function placeFile({ folder, target, artifact, content }: PlaceFile): Promise<void> {
  const there = await lookAt(target);
  if (there !== null && !there.isFile()) throw inTheWay(target, there, 'a file');
  const temporary = join(folder, `.builder-${randomUUID()}.part`);
  const file = await open(temporary, 'wx', 0o600).catch((cause) => {
    throw notWritten(target, cause);
  });
  try {
    try {
      await writeChecked(file, artifact, content);
      // Whoever fetched it may read it, whatever the script did to its own copy.
      await file.chmod(artifact.mode | 0o600);
    } finally {
      await file.close();
    }
    await rename(temporary, target).catch((cause) => {
      throw notWritten(target, cause);
    });
  } catch (thrown) {
    await rm(temporary, { force: true });
    throw thrown;
  }
}

async function writeChecked(file: FileHandle, artifact: Artifact, content: AsyncIterable<Uint8Array>): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of content) {
    bytes += chunk.length;
    if (bytes > artifact.bytes) throw damaged(artifact, 'more bytes');
    hash.update(chunk);
    await file.writeFile(chunk).catch((cause) => {
      throw notWritten(artifact.path, cause);
    });
  }
  if (bytes < artifact.bytes) throw damaged(artifact, `${bytes} bytes`);
  const sha256 = hash.digest('hex');
  if (sha256 !== artifact.sha256) throw damaged(artifact, `SHA-256 ${sha256}`);
}

async function makeFolder(path: string, made: string[]): Promise<void> {
  try {
    await mkdir(path);
    made.push(path);
  } catch (cause) {
    const there = await lookAt(path);
    if (there === null) throw notWritten(path, cause);
    if (!there.isDirectory()) throw inTheWay(path, there, 'a folder');
  }
}

async function lookAt(path: string): Promise<Stats | null> {
  return lstat(path).catch((cause) => {
    if (cause.code === 'ENOENT') return null;
    throw notWritten(path, cause);
  });
}

function inTheWay(path: string, there: Stats, expected: string): BuilderError {
  const kind = there.isSymbolicLink() ? 'a symbolic link' : there.isDirectory() ? 'a folder' : 'something else';
  return new BuilderError('conflict', `expected ${expected} or nothing at ${visible(path)}, got ${kind}`);
}

function notWritten(path: string, cause: unknown): BuilderError {
  return new BuilderError('conflict', `expected a place to write ${visible(path)}, got ${oneLine(cause)}`, { cause });
}

function damaged(artifact: Artifact, got: string): BuilderError {
  return new BuilderError(
    'damaged',
    `expected ${visible(artifact.path)} to be ${artifact.bytes} bytes of SHA-256 ${artifact.sha256}, got ${got}; it was not kept`,
  );
}
