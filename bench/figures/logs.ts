/** The way of a line of log: how long until an observer has it, and how many lines a second. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { type Contender, type Figure, Missing, type Size, type Values, Void } from '../figure.ts';
import { pipelinedXadd, xaddToXread } from '../peers/redis-lines.ts';
import { percentile } from '../summary.ts';
import { checkText, linesOf, observeRun } from '../support/log-observer.ts';
import { PLATFORM, startPool } from '../support/pool.ts';
import { scratchFolder } from '../support/scratch.ts';
import { flood, floodDigest, paced, scriptOf } from '../support/talker.ts';

/** While nothing else happens a line may wait so long for others. */
const BATCHING_MS = 20;
const SETTING = 'sandbox none, folder store, one worker, one server, an observer over HTTP of each run';
const DELAYS = [
  { name: 'p50', unit: 'ms', better: 'less' },
  { name: 'p99', unit: 'ms', better: 'less' },
] as const;

export function logsFigures(size: Size): Figure[] {
  const full = size === 'full';
  return [
    delayFigure('log-delay-idle', { runs: 20, lines: full ? 20 : 2, perSecond: 1 }, full ? 5 : 3),
    delayFigure('log-delay-busy', { runs: 1, lines: full ? 100_000 : 10_000, perSecond: 10_000 }, full ? 5 : 3),
    rateFigure(full ? 1_000_000 : 150_000, full ? 5 : 3),
  ];
}

interface Talk {
  runs: number;
  /** Of each run. */
  lines: number;
  perSecond: number;
}

function delayFigure(name: string, talk: Talk, rounds: number): Figure {
  const limit = xaddToXread({ streams: talk.runs, lines: talk.lines, perSecond: talk.perSecond }, delayValues);
  return {
    name,
    title: `a line written by the script to the line at an observer, ${talk.runs} run(s) of ${talk.perSecond} lines/s`,
    statistics: [...DELAYS],
    rounds,
    contenders: [builderDelay(talk), limit],
    goals: [{ statistic: 'p99', contender: 'builder', against: [limit.name], ratio: 3, allowance: BATCHING_MS }],
  };
}

function delayValues(delaysMs: number[]): Values {
  if (delaysMs.some((delayMs) => delayMs < 0)) throw new Void('expected each line after it was written, got one before');
  return { p50: percentile(delaysMs, 0.5), p99: percentile(delaysMs, 0.99) };
}

/** Until the observers are there. */
const DELAY_MS = 1_000;

function builderDelay({ runs, lines, perSecond }: Talk): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: SETTING,
    open: async () => {
      needPerl();
      const pool = await startPool({ workers: 1, concurrency: runs, sandbox: 'none' });
      const scripts = Array.from({ length: runs }, (_, index) =>
        scriptOf(paced({ lines, perSecond, delayMs: DELAY_MS + (index * 1000) / (perSecond * runs) })),
      );
      return {
        measure: async () => {
          const ids = await pool.submit(scripts.map((script) => ({ platform: PLATFORM, script })));
          const observed = (await Promise.all(ids.map((id) => observeRun(pool, id)))).map(linesOf);
          const wrong = observed.find((one) => one.length !== lines);
          if (wrong !== undefined) throw new Void(`expected ${lines} lines of each run, got ${wrong.length}`);
          await pool.idle();
          await pool.checkRuns(ids);
          return delayValues(observed.flat().map(({ line, atMs }) => atMs - Number.parseFloat(line.text) * 1000));
        },
        close: pool.close,
      };
    },
  };
}

function rateFigure(lines: number, rounds: number): Figure {
  const limits = [
    pipedToFile(lines, 'Node pipeline to a file', {}),
    pipedToFile(lines, 'Node pipeline, 1 MiB buffers', { highWaterMark: 2 ** 20 }),
  ];
  const xadds = [1, 2].map((flushes) => pipelinedXadd({ command: flood(lines), lines, sha256: floodDigest(lines), flushes }));
  return {
    name: 'log-rate',
    title: `${lines} lines of 100 bytes`,
    statistics: [{ name: 'rate', unit: 'lines/s', better: 'more' }],
    rounds,
    contenders: [builderRate(lines), ...limits, ...xadds],
    goals: [
      { statistic: 'rate', contender: 'builder', against: limits.map(({ name }) => name), ratio: 0.25 },
      { statistic: 'rate', contender: 'builder', against: xadds.map(({ name }) => name), ratio: 3 },
    ],
  };
}

/** Of a line as it is observed. */
const LINE_BYTES_MAX = 200;

function builderRate(lines: number): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `${SETTING}; from the request to the end of the log at the observer, archive and result included`,
    open: async () => {
      needPerl();
      const pool = await startPool({ workers: 1, concurrency: 1, sandbox: 'none' });
      const sha256 = floodDigest(lines);
      const room = Buffer.alloc(lines * LINE_BYTES_MAX, 1);
      return {
        measure: async () => {
          const begunAtMs = performance.now();
          const [id = ''] = await pool.submit([{ platform: PLATFORM, script: scriptOf(flood(lines)) }]);
          const observed = await observeRun(pool, id, { room });
          const tookMs = performance.now() - begunAtMs;
          await pool.idle();
          await pool.checkRuns([id]);
          checkText(pool, id, { observed, sha256, lines });
          return { rate: (lines * 1000) / tookMs };
        },
        close: pool.close,
      };
    },
  };
}

function pipedToFile(lines: number, name: string, options: { highWaterMark?: number }): Contender {
  return {
    name,
    kind: 'limit',
    setting: 'the same child, its output by stream.pipeline; nothing synced',
    open: async () => {
      needPerl();
      const folder = scratchFolder();
      const path = `${folder.path}/output`;
      const [program, ...args] = flood(lines);
      const sha256 = floodDigest(lines);
      return {
        measure: async () => {
          const begunAtMs = performance.now();
          const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
          await pipeline(child.stdout, createWriteStream(path, options));
          const tookMs = performance.now() - begunAtMs;
          const hash = createHash('sha256');
          await pipeline(createReadStream(path), hash);
          if (hash.digest('hex') !== sha256) throw new Void('expected what the child writes in the file, got something else');
          return { rate: (lines * 1000) / tookMs };
        },
        close: async () => folder.remove(),
      };
    },
  };
}

function needPerl(): void {
  if (spawnSync('perl', ['-MTime::HiRes', '-e', '1']).status !== 0)
    throw new Missing('perl with Time::HiRes is not installed: apt-get install perl');
}
