/** A run that leaves a great many small files: collected at its end, and fetched by `builder download`. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startProgram } from '../../test/support/system.ts';
import { type Contender, type Figure, type Size, type Values, Void } from '../figure.ts';
import { type BenchPool, PLATFORM, startPool } from '../support/pool.ts';
import { scratchFolder } from '../support/scratch.ts';
import { shell, timed } from '../support/storing.ts';

const COLLECT = { name: 'collect', unit: 'files/s', better: 'more' } as const;
const DOWNLOAD = { name: 'download', unit: 'files/s', better: 'more' } as const;

export function manyArtifactsFigures(size: Size): Figure[] {
  const files = size === 'full' ? 10_000 : 200;
  return [
    {
      name: 'artifacts-many',
      title: `${files} files of 16 bytes of one run, beside cp and sha256sum of as many`,
      statistics: [COLLECT, DOWNLOAD],
      rounds: 3,
      contenders: [builder(files), copy(files)],
      goals: [],
    },
  ];
}

function contentOf(round: number, index: number): string {
  return `${round} ${index}`.padEnd(15, ' ').concat('\n');
}

/** Its last line is the moment of its end, by the clock that the worker's times are of. */
function scriptOf(round: number, files: number): string {
  return `perl -e 'for (1 .. ${files}) { open my $f, ">", $_ or die; printf $f "%-15s\\n", "${round} $_"; close $f }'\ndate +%s%3N\n`;
}

function builder(files: number): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting:
      'collect: 1 worker × 1, sandbox none, folder store, synced; from the end of the script to the end of the run; download: `builder download`, one process over HTTP',
    open: async () => {
      const pool = await startPool({ workers: 1, concurrency: 1, sandbox: 'none' });
      let round = 0;
      const measure = async (): Promise<Values> => {
        round += 1;
        const [id = ''] = await pool.submit([{ platform: PLATFORM, script: scriptOf(round, files) }]);
        await pool.idle();
        await pool.checkRuns([id], ({ result }) => (result?.artifactCount === files ? null : `got ${result?.artifactCount} artifacts`));
        const collectMs = (await finishedAtMs(pool, id)) - Number(await (await pool.get(`/runs/${id}/log`)).text());
        const folder = join(pool.folder, `download-${round}`);
        const downloadMs = await timed(() => download(pool, id, folder));
        checkFiles(folder, round, files);
        return { collect: (files * 1000) / collectMs, download: (files * 1000) / downloadMs };
      };
      return { measure, close: pool.close };
    },
  };
}

async function finishedAtMs(pool: BenchPool, id: string): Promise<number> {
  return Date.parse(((await (await pool.get(`/runs/${id}`)).json()) as { finishedAt: string }).finishedAt);
}

async function download(pool: BenchPool, id: string, folder: string): Promise<void> {
  const env = { BUILDER_SERVER: pool.url, BUILDER_TOKEN: pool.token };
  const { code, stderr } = await startProgram(['download', id, '-o', folder], { env }).ended;
  if (code !== 0) throw new Void(`expected exit code 0 of the download, got ${code}: ${stderr}`);
}

function checkFiles(folder: string, round: number, files: number): void {
  if (readdirSync(folder).length !== files) throw new Void(`expected ${files} files, got ${readdirSync(folder).length}`);
  for (let index = 1; index <= files; index += 1) {
    if (readFileSync(join(folder, String(index)), 'utf8') !== contentOf(round, index))
      throw new Void(`expected the content of file ${index}`);
  }
}

/** What the disk allows to one program that does no more. */
function copy(files: number): Contender {
  return {
    name: 'cp, sha256sum, sync -d',
    kind: 'limit',
    setting: 'the same files on the same file system; collect: one process of each, one after the other; download: cp and sha256sum alone',
    open: async () => {
      const { path, remove } = scratchFolder();
      let round = 0;
      const measure = async (): Promise<Values> => {
        round += 1;
        const [from, to, fetched] = ['from', 'to', 'fetched'].map((name) => join(path, `${name}-${round}`)) as [string, string, string];
        for (const folder of [from, to, fetched]) mkdirSync(folder);
        for (let index = 1; index <= files; index += 1) writeFileSync(join(from, String(index)), contentOf(round, index));
        const collectMs = await timed(() => shell('cp -r "$1"/. . && ls | xargs sha256sum && ls | xargs sync -d', to, [from]));
        const downloadMs = await timed(() => shell('cp -r "$1"/. . && ls | xargs sha256sum', fetched, [to]));
        checkFiles(fetched, round, files);
        return { collect: (files * 1000) / collectMs, download: (files * 1000) / downloadMs };
      };
      return { measure, close: async () => remove() };
    },
  };
}
