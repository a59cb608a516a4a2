/** Files of a run put into a folder here: never outside it, never half written, never with other content than announced. */
import { createHash, randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, mkdir, open, realpath, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Artifact } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import { makeFolder as makeFolders } from '../service/make-folder.ts';
import { visible } from './output.ts';
import { createSmallFiles, type SmallFiles } from './small-files.ts';

type Content = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export interface Placing {
  /** Writes one file whole or not at all; throws `damaged` where its bytes are not as announced, and `conflict` where it may not lie. */
  place(artifact: Artifact, content: Content): Promise<void>;
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
  const small = createSmallFiles();
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
      await placeFile({ folder: join(root, parent), target: join(root, artifact.path), artifact, content, small });
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
  content: Content;
  small: SmallFiles;
}

async function placeFile({ folder, target, artifact, content, small }: PlaceFile): Promise<void> {
  const there = small.isFree(target) ? null : await lookAt(target);
  if (there !== null && !there.isFile()) throw inTheWay(target, there, 'a file');
  const temporary = join(folder, `.builder-${randomUUID()}.part`);
  // Whoever fetched it may read it, whatever the script did to its own copy.
  const mode = artifact.mode | 0o600;
  const chunks = checked(artifact, content);
  if (artifact.bytes > limits.wholeFileBytesMax) return writeAlong({ temporary, target, mode, artifact, chunks });
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  const whole = Buffer.concat(parts);
  if (!small.place({ temporary, target, mode, content: whole })) await writeAlong({ temporary, target, mode, artifact, chunks: [whole] });
}

interface Writing {
  temporary: string;
  target: string;
  mode: number;
  artifact: Artifact;
  chunks: Content;
}

async function writeAlong({ temporary, target, mode, artifact, chunks }: Writing): Promise<void> {
  const file = await open(temporary, 'wx', 0o600).catch((cause) => {
    throw notWritten(target, cause);
  });
  try {
    try {
      for await (const chunk of chunks) {
        await file.writeFile(chunk).catch((cause) => {
          throw notWritten(artifact.path, cause);
        });
      }
      await file.chmod(mode);
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

/** The chunks as they come; throws `damaged` at the first byte too many or, at the end, where bytes or digest differ. */
async function* checked(artifact: Artifact, content: Content): AsyncGenerator<Uint8Array, void> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of content) {
    bytes += chunk.length;
    if (bytes > artifact.bytes) throw damaged(artifact, 'more bytes');
    hash.update(chunk);
    yield chunk;
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
