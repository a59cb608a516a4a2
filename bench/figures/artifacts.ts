/** Artifacts: collected as a run's end does it, beside the bare tools that do the same. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Client } from 'minio';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import { openS3Store } from '../../src/artifacts/s3-store.ts';
import type { Store } from '../../src/artifacts/store.ts';
import { limits } from '../../src/job/limits.ts';
import { eachAtOnce } from '../../src/service/each.ts';
import { onPath } from '../../test/support/programs.ts';
import { type Contender, type Figure, type Goal, Missing, type Size, type Values, Void } from '../figure.ts';
import { digestOfFile, type LeftFile, type LeftFiles, leaveFiles } from '../support/artifact-files.ts';
import { scratchFolder, scratchFolderAt } from '../support/scratch.ts';
import { CLIENT_PART_BYTES, openSharedS3 } from '../support/shared-s3.ts';
import { AT_ONCE, checkArtifacts, checkCopied, checkStored, collect, shell, timed } from '../support/storing.ts';

const MIB = 1024 * 1024;
const CORES = availableParallelism();
const AS_A_WORKER = `in the bench's own process by the worker's own code, ${AT_ONCE} files at a time`;
const LARGE = { name: 'large', unit: 'MiB/s', better: 'more' } as const;
const SMALL = { name: 'small', unit: 'files/s', better: 'more' } as const;

/** What is read and hashed alone takes some 50 ms, of which a cold processor is a good part: the small ones are looked at so often in one go, at full size for a second. */
const LOOKS_AT_SMALL = { short: 5, full: 20 };

/** A large file and small ones, made once for the contenders of a figure. */
interface Material {
  folder: string;
  large: LeftFiles;
  small: LeftFiles;
}

export function artifactFigures(size: Size): Figure[] {
  const full = size === 'full';
  const large = { count: 1, bytes: (full ? 1024 : 24) * MIB };
  const small = { count: full ? 2_000 : 120, bytes: 16 * 1024 };
  const rounds = full ? 5 : 3;
  const made = sharedMaterial(large, small);
  const what = `an artifact of ${large.bytes / MIB} MiB, and ${small.count} of 16 KiB`;
  const copies = copyWays(made);
  const withOpenssl = copies.filter(({ name }) => name.includes('openssl'));
  const withSha256sum = copies.filter((one) => !withOpenssl.includes(one));
  const looks = LOOKS_AT_SMALL[size];
  const digests = digestWays(made, looks);
  const clients = clientWays(made);
  return [
    {
      name: 'artifacts-folder',
      title: `${what}, to the folder store`,
      statistics: [LARGE, SMALL],
      rounds,
      contenders: [builderFolder(made), ...copies],
      // Beside the tools that everybody has, and beside a faster one of them that many have.
      goals: [withSha256sum, withOpenssl].flatMap((ways) => goalsAgainst(ways, 0.8, [LARGE, SMALL])),
    },
    {
      name: 'artifacts-again',
      title: `${what}, which the folder store has already; the small ones ${looks} times one after the other`,
      statistics: [LARGE, SMALL],
      rounds,
      contenders: [builderAgain(made, looks), ...digests],
      goals: goalsAgainst(digests, 0.9, [LARGE, SMALL]),
    },
    {
      name: 'artifacts-s3',
      title: `${what}, to S3`,
      statistics: [LARGE, SMALL],
      rounds: full ? 4 : 3,
      contenders: [builderS3(made), ...clients],
      goals: goalsAgainst(clients, 0.85, [LARGE, SMALL]),
    },
  ];
}

function goalsAgainst(ways: Contender[], ratio: number, statistics: { name: string }[]): Goal[] {
  return statistics.map(({ name }) => ({ statistic: name, contender: 'builder', against: ways.map((one) => one.name), ratio }));
}

type Made = () => { material: Material; release: () => void };

/** Made by the first contender that opens, given up by the last that closes. */
function sharedMaterial(large: { count: number; bytes: number }, small: { count: number; bytes: number }): Made {
  let users = 0;
  let current: { material: Material; remove: () => void } | null = null;
  return () => {
    if (current === null) {
      const { path, remove } = scratchFolder();
      const material = { folder: path, large: leaveFiles(join(path, 'large'), large), small: leaveFiles(join(path, 'small'), small) };
      current = { material, remove };
    }
    users += 1;
    const { material, remove } = current;
    return {
      material,
      release: () => {
        users -= 1;
        if (users > 0) return;
        current = null;
        remove();
      },
    };
  };
}

function ratesOf({ large, small }: Material, largeMs: number, smallMs: number): Values {
  return { large: (large.bytes / MIB / largeMs) * 1000, small: (small.files.length / smallMs) * 1000 };
}

/** A fresh folder for each round. */
async function inFolder<T>(parent: string, name: string, work: (folder: string) => Promise<T>): Promise<T> {
  const { path, remove } = scratchFolderAt(join(parent, `${name}-`));
  try {
    return await work(path);
  } finally {
    remove();
  }
}

/** Collects both into an empty store, reads all of it back, and closes it. */
async function collectInto(store: Store, material: Material): Promise<Values> {
  const times: number[] = [];
  for (const left of [material.large, material.small]) {
    times.push(await timed(async () => checkArtifacts(left, await collect(left, store))));
    await checkStored(left, ({ sha256 }) => store.getBlob(sha256));
  }
  await store.close();
  return ratesOf(material, times[0] ?? 0, times[1] ?? 0);
}

function builderFolder(made: Made): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `${AS_A_WORKER}; empty folder store, content and names synced before the end; its threads for files have been started`,
    open: async () => {
      const { material, release } = made();
      await inFolder(material.folder, 'first', async (folder) => collect(material.small, await openFolderStore(folder)));
      const measure = (): Promise<Values> =>
        inFolder(material.folder, 'store', async (folder) => {
          const store = await openFolderStore(folder);
          return collectInto(store, material);
        });
      return { measure, close: async () => release() };
    },
  };
}

const HASH = { sha256sum: 'sha256sum --', openssl: 'openssl dgst -sha256 -r' };

/** Their digests, as told by one process a core, each with an equal part of the files. One pipe for all would mix their lines. */
async function hashOnAllCores(program: keyof typeof HASH, { folder, files }: LeftFiles): Promise<string> {
  const paths = files.map(({ path }) => path);
  const each = Math.ceil(paths.length / CORES);
  const parts = Array.from({ length: Math.ceil(paths.length / each) }, (_, at) => paths.slice(at * each, (at + 1) * each));
  const line = `exec ${HASH[program]} "$@"`;
  return (await Promise.all(parts.map((part) => shell(line, folder, part)))).join('');
}

interface CopyWay {
  needs: keyof typeof HASH;
  /** `$1` the folder with the files, `.` the new one. */
  large: string;
  small: string;
  /** The small line does not hash: all cores do meanwhile. One large file is hashed by one of them in any case. */
  onAllCores?: true;
}

const COPY_SMALL = `cp "$1"/* . && ls | xargs -P ${AT_ONCE} -n 64 sync -d --`;
const BESIDE = {
  sha256sum: 'sha256sum "$1"/* & cp "$1"/* . && sync -d -- * && wait',
  openssl: 'openssl dgst -sha256 -r "$1"/* & cp "$1"/* . && sync -d -- * && wait',
};

const COPIES: Record<string, CopyWay> = {
  'cp, sha256sum, sync -d': {
    needs: 'sha256sum',
    large: 'cp "$1"/* . && sha256sum -- * && sync -d -- *',
    small: 'cp "$1"/* . && sha256sum -- * && sync -d -- *',
  },
  'cp beside sha256sum, sync -d': {
    needs: 'sha256sum',
    large: BESIDE.sha256sum,
    small: `sha256sum "$1"/* & ${COPY_SMALL} && wait`,
  },
  'cp beside sha256sum on all cores, sync -d': { needs: 'sha256sum', large: BESIDE.sha256sum, small: COPY_SMALL, onAllCores: true },
  'cp beside openssl, sync -d': {
    needs: 'openssl',
    large: BESIDE.openssl,
    small: `openssl dgst -sha256 -r "$1"/* & ${COPY_SMALL} && wait`,
  },
  'cp beside openssl on all cores, sync -d': { needs: 'openssl', large: BESIDE.openssl, small: COPY_SMALL, onAllCores: true },
};

const COPY_SETTING = 'the same file system, content synced; no name by digest, no rename, no sync of folders';

function copyWays(made: Made): Contender[] {
  return Object.entries(COPIES).map(([name, way]) => ({
    name,
    kind: 'limit',
    setting: way.onAllCores ? `${COPY_SETTING}; small files hashed by ${CORES} processes, large as by one` : COPY_SETTING,
    open: async () => {
      if (!onPath(way.needs)) throw new Missing(`${way.needs} is not installed: apt-get install ${way.needs}`);
      const { material, release } = made();
      const measure = async (): Promise<Values> => {
        const { large, small } = material;
        const largeMs = await copyMs(material, large, (folder) => shell(way.large, folder, [large.folder]));
        const smallMs = await copyMs(material, small, async (folder) => {
          const copied = shell(way.small, folder, [small.folder]);
          return (await Promise.all([copied, way.onAllCores ? hashOnAllCores(way.needs, small) : ''])).join('');
        });
        return ratesOf(material, largeMs, smallMs);
      };
      return { measure, close: async () => release() };
    },
  }));
}

/** `copy`: into that folder; what it tells of their digests. */
function copyMs(material: Material, left: LeftFiles, copy: (folder: string) => Promise<string>): Promise<number> {
  return inFolder(material.folder, 'copies', async (folder) => {
    let told = '';
    const tookMs = await timed(async () => {
      told = await copy(folder);
    });
    checkTold(left, told);
    await checkCopied(left, folder);
    return tookMs;
  });
}

function checkTold({ files }: LeftFiles, told: string): void {
  const digests = new Set(told.split('\n').map((line) => line.slice(0, 64)));
  if (files.some(({ sha256 }) => !digests.has(sha256))) throw new Void('expected the digest of each file, got others');
}

function builderAgain(made: Made, looks: number): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `${AS_A_WORKER}; the folder store has seen the files before: names known, threads for files started`,
    open: async () => {
      const { material, release } = made();
      const folder = join(material.folder, 'kept');
      const store = await openFolderStore(folder);
      for (const left of [material.large, material.small]) await collect(left, store);
      const measure = (): Promise<Values> => looksAt(material, looks, async (left) => checkArtifacts(left, await collect(left, store)));
      const close = async (): Promise<void> => {
        await store.close();
        release();
      };
      return { measure, close };
    },
  };
}

async function looksAt(material: Material, looks: number, look: (left: LeftFiles) => Promise<void>): Promise<Values> {
  const largeMs = await timed(() => look(material.large));
  const smallMs = await timed(async () => {
    for (let done = 0; done < looks; done += 1) await look(material.small);
  });
  return ratesOf(material, largeMs, smallMs / looks);
}

interface DigestWay {
  needs: string;
  setting: string;
  digest: (left: LeftFiles) => Promise<void>;
}

function inOneProcess(program: keyof typeof HASH): DigestWay['digest'] {
  return async (left) => checkTold(left, await shell(`${HASH[program]} "$1"/*`, '/', [left.folder]));
}

function onAllCores(program: keyof typeof HASH): DigestWay['digest'] {
  return async (left) => checkTold(left, await hashOnAllCores(program, left));
}

async function digestByNode({ folder, files }: LeftFiles): Promise<void> {
  await eachAtOnce(files, AT_ONCE, async ({ path, sha256, bytes }) => {
    const file = join(folder, path);
    const found = bytes > MIB ? await digestOfFile(file) : digestOf(await readFile(file));
    if (found !== sha256) throw new Void(`expected the digest of ${path}, got another`);
  });
}

function digestOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

const ONE_PROCESS = 'reads and hashes, all files in one process on one core';
const MANY_PROCESSES = `reads and hashes, the files spread over ${CORES} processes; one large file is hashed by one of them`;

const DIGESTS: Record<string, DigestWay> = {
  sha256sum: { needs: 'sha256sum', setting: ONE_PROCESS, digest: inOneProcess('sha256sum') },
  'sha256sum on all cores': { needs: 'sha256sum', setting: MANY_PROCESSES, digest: onAllCores('sha256sum') },
  openssl: { needs: 'openssl', setting: ONE_PROCESS, digest: inOneProcess('openssl') },
  'openssl on all cores': { needs: 'openssl', setting: MANY_PROCESSES, digest: onAllCores('openssl') },
  "Node's own": {
    needs: 'node',
    setting: `in the bench's own process: ${AT_ONCE} files read at a time, hashed on its main thread`,
    digest: digestByNode,
  },
};

function digestWays(made: Made, looks: number): Contender[] {
  return Object.entries(DIGESTS).map(([name, { needs, setting, digest }]) => ({
    name,
    kind: 'limit',
    setting,
    open: async () => {
      if (!onPath(needs)) throw new Missing(`${needs} is not installed: apt-get install ${needs}`);
      const { material, release } = made();
      const measure = (): Promise<Values> => looksAt(material, looks, digest);
      return { measure, close: async () => release() };
    },
  }));
}

function builderS3(made: Made): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `${AS_A_WORKER}; empty bucket of an S3 server on loopback, parts of ${limits.s3PartBytes / MIB} MiB`,
    open: async () => {
      const s3 = await openSharedS3();
      const { material, release } = made();
      const { endpoint, region, accessKey, secretKey } = s3.server;
      const measure = (): Promise<Values> =>
        s3.withBucket(async (bucket) => {
          const store = await openS3Store({ kind: 's3', bucket, endpoint, region, accessKey, secretKey });
          return collectInto(store, material);
        });
      const close = async (): Promise<void> => {
        release();
        await s3.close();
      };
      return { measure, close };
    },
  };
}

type Put = (o: { client: Client; bucket: string; left: LeftFiles; file: LeftFile }) => Promise<unknown>;

/** The digest names the object, so it must be known first. */
const fPutObject: Put = async ({ client, bucket, left, file }) => {
  const path = join(left.folder, file.path);
  return client.fPutObject(bucket, await digestOfFile(path), path);
};

const putObject: Put = async ({ client, bucket, left, file }) => {
  const path = join(left.folder, file.path);
  if (file.bytes > MIB) return client.putObject(bucket, await digestOfFile(path), createReadStream(path), file.bytes);
  const content = await readFile(path);
  return client.putObject(bucket, digestOf(content), content);
};

const PUTS: Record<string, { put: Put; partBytes: number }> = {
  'minio client, fPutObject': { put: fPutObject, partBytes: CLIENT_PART_BYTES },
  'minio client, putObject': { put: putObject, partBytes: CLIENT_PART_BYTES },
  "minio client, putObject in builder's parts": { put: putObject, partBytes: limits.s3PartBytes },
};

function clientWays(made: Made): Contender[] {
  return Object.entries(PUTS).map(([name, { put, partBytes }]) => ({
    name,
    kind: 'limit',
    setting: `in the bench's own process, ${AT_ONCE} files at a time, SHA-256 of each first, parts of ${partBytes / MIB} MiB; the same S3 server`,
    open: async () => {
      const s3 = await openSharedS3();
      const client = s3.clientOf(partBytes);
      const { material, release } = made();
      const measure = (): Promise<Values> =>
        s3.withBucket(async (bucket) => {
          const times: number[] = [];
          for (const left of [material.large, material.small]) {
            times.push(await timed(() => eachAtOnce(left.files, AT_ONCE, (file) => put({ client, bucket, left, file }))));
            await checkStored(left, ({ sha256 }) => client.getObject(bucket, sha256));
          }
          return ratesOf(material, times[0] ?? 0, times[1] ?? 0);
        });
      const close = async (): Promise<void> => {
        release();
        await s3.close();
      };
      return { measure, close };
    },
  }));
}
