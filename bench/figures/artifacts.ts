/** Artifacts: collected as a run's end does it, beside the bare tools that do the same. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import { openS3Store } from '../../src/artifacts/s3-store.ts';
import type { Store } from '../../src/artifacts/store.ts';
import { eachAtOnce } from '../../src/service/each.ts';
import { onPath } from '../../test/support/programs.ts';
import { type Contender, type Figure, type Goal, Missing, type Size, type Values, Void } from '../figure.ts';
import { digestOfFile, type LeftFile, type LeftFiles, leaveFiles } from '../support/artifact-files.ts';
import { scratchFolder, scratchFolderAt } from '../support/scratch.ts';
import { openSharedS3, type SharedS3 } from '../support/shared-s3.ts';
import { AT_ONCE, checkArtifacts, checkCopied, checkStored, collect, shell, timed } from '../support/storing.ts';

const MIB = 1024 * 1024;
const LARGE = { name: 'large', unit: 'MiB/s', better: 'more' } as const;
const SMALL = { name: 'small', unit: 'files/s', better: 'more' } as const;

/** A large file and small ones, made once for the contenders of a figure. */
interface Material {
  folder: string;
  large: LeftFiles;
  small: LeftFiles;
}

export function artifactFigures(size: Size): Figure[] {
  const full = size === 'full';
  const large = { count: 1, bytes: (full ? 1024 : 24) * MIB };
  const small = { count: full ? 2_000 : 150, bytes: 16 * 1024 };
  const rounds = full ? 5 : 3;
  const made = sharedMaterial(large, small);
  const what = `an artifact of ${large.bytes / MIB} MiB, and ${small.count} of 16 KiB`;
  const copies = copyWays(made);
  const withOpenssl = copies.filter(({ name }) => name.includes('openssl'));
  const withSha256sum = copies.filter((one) => !withOpenssl.includes(one));
  const digests = digestWays(made);
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
      title: `${what}, which the folder store has already`,
      statistics: [LARGE, SMALL],
      rounds,
      contenders: [builderAgain(made), ...digests],
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
    setting: `collected by the worker's own code, ${AT_ONCE} files at a time; each durable before it is told; its threads for files have been started`,
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

/** `$1` the folder with the files, `.` the new one. */
const COPIES: Record<string, { needs: string; large: string; small: string }> = {
  'cp, sha256sum, sync -d': {
    needs: 'sha256sum',
    large: 'cp "$1"/* . && sha256sum -- * && sync -d -- *',
    small: 'cp "$1"/* . && sha256sum -- * && sync -d -- *',
  },
  'cp beside sha256sum, sync -d': {
    needs: 'sha256sum',
    large: 'sha256sum "$1"/* & cp "$1"/* . && sync -d -- * && wait',
    small: `sha256sum "$1"/* & cp "$1"/* . && ls | xargs -P ${AT_ONCE} -n 64 sync -d -- && wait`,
  },
  'cp beside openssl, sync -d': {
    needs: 'openssl',
    large: 'openssl dgst -sha256 -r "$1"/* & cp "$1"/* . && sync -d -- * && wait',
    small: `openssl dgst -sha256 -r "$1"/* & cp "$1"/* . && ls | xargs -P ${AT_ONCE} -n 64 sync -d -- && wait`,
  },
};

function copyWays(made: Made): Contender[] {
  return Object.entries(COPIES).map(([name, way]) => ({
    name,
    kind: 'limit',
    setting: 'the same file system; without a name by digest, a rename, or a sync of folders',
    open: async () => {
      if (!onPath(way.needs)) throw new Missing(`${way.needs} is not installed: apt-get install ${way.needs}`);
      const { material, release } = made();
      const copy = (left: LeftFiles, line: string): Promise<number> =>
        inFolder(material.folder, 'copies', async (folder) => {
          let told = '';
          const tookMs = await timed(async () => {
            told = await shell(line, folder, [left.folder]);
          });
          checkTold(left, told);
          await checkCopied(left, folder);
          return tookMs;
        });
      const measure = async (): Promise<Values> =>
        ratesOf(material, await copy(material.large, way.large), await copy(material.small, way.small));
      return { measure, close: async () => release() };
    },
  }));
}

function checkTold({ files }: LeftFiles, told: string): void {
  const digests = new Set(told.split('\n').map((line) => line.slice(0, 64)));
  if (files.some(({ sha256 }) => !digests.has(sha256))) throw new Void('expected the digest of each file, got others');
}

function builderAgain(made: Made): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `collected by the worker's own code, ${AT_ONCE} files at a time`,
    open: async () => {
      const { material, release } = made();
      const folder = join(material.folder, 'kept');
      const store = await openFolderStore(folder);
      for (const left of [material.large, material.small]) await collect(left, store);
      const measure = async (): Promise<Values> => {
        const times: number[] = [];
        for (const left of [material.large, material.small]) {
          times.push(await timed(async () => checkArtifacts(left, await collect(left, store))));
        }
        return ratesOf(material, times[0] ?? 0, times[1] ?? 0);
      };
      const close = async (): Promise<void> => {
        await store.close();
        release();
      };
      return { measure, close };
    },
  };
}

function digestWays(made: Made): Contender[] {
  const ways: Record<string, { needs: string; digest: (left: LeftFiles) => Promise<void> }> = {
    sha256sum: { needs: 'sha256sum', digest: async (left) => checkTold(left, await shell('sha256sum "$1"/*', '/', [left.folder])) },
    openssl: {
      needs: 'openssl',
      digest: async (left) => checkTold(left, await shell('openssl dgst -sha256 -r "$1"/*', '/', [left.folder])),
    },
    "Node's own": {
      needs: 'node',
      digest: ({ folder, files }) =>
        eachAtOnce(files, AT_ONCE, async ({ path, sha256, bytes }) => {
          const file = join(folder, path);
          const found =
            bytes > MIB
              ? await digestOfFile(file)
              : createHash('sha256')
                  .update(await readFile(file))
                  .digest('hex');
          if (found !== sha256) throw new Void(`expected the digest of ${path}, got another`);
        }).then(() => undefined),
    },
  };
  return Object.entries(ways).map(([name, { needs, digest }]) => ({
    name,
    kind: 'limit',
    setting: 'reads and hashes',
    open: async () => {
      if (!onPath(needs)) throw new Missing(`${needs} is not installed: apt-get install ${needs}`);
      const { material, release } = made();
      const measure = async (): Promise<Values> =>
        ratesOf(material, await timed(() => digest(material.large)), await timed(() => digest(material.small)));
      return { measure, close: async () => release() };
    },
  }));
}

function builderS3(made: Made): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `collected by the worker's own code, ${AT_ONCE} files at a time`,
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

type Put = (o: { s3: SharedS3; bucket: string; left: LeftFiles; file: LeftFile }) => Promise<unknown>;

async function hashed({ left, file }: { left: LeftFiles; file: LeftFile }): Promise<string> {
  return digestOfFile(join(left.folder, file.path));
}

/** The digest names the object, so it must be known first. */
const PUTS: Record<string, Put> = {
  'minio client, fPutObject': async (o) => o.s3.client.fPutObject(o.bucket, await hashed(o), join(o.left.folder, o.file.path)),
  'minio client, putObject': async (o) => {
    const path = join(o.left.folder, o.file.path);
    if (o.file.bytes > MIB) return o.s3.client.putObject(o.bucket, await hashed(o), createReadStream(path), o.file.bytes);
    const content = await readFile(path);
    return o.s3.client.putObject(o.bucket, createHash('sha256').update(content).digest('hex'), content);
  },
};

function clientWays(made: Made): Contender[] {
  return Object.entries(PUTS).map(([name, put]) => ({
    name,
    kind: 'limit',
    setting: `${AT_ONCE} files at a time, SHA-256 of each first; content is read back`,
    open: async () => {
      const s3 = await openSharedS3();
      const { material, release } = made();
      const measure = (): Promise<Values> =>
        s3.withBucket(async (bucket) => {
          const times: number[] = [];
          for (const left of [material.large, material.small]) {
            times.push(await timed(() => eachAtOnce(left.files, AT_ONCE, (file) => put({ s3, bucket, left, file }))));
            await checkStored(left, ({ sha256 }) => s3.client.getObject(bucket, sha256));
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
