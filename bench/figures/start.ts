/** How long a run waits for its first instruction when nothing else is to be done. */
import { realpathSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { ROOT } from '../../test/support/root.ts';
import { type Contender, type Figure, Missing, type Size, type Values, Void } from '../figure.ts';
import { percentile } from '../summary.ts';
import { takeBwrapCommand } from '../support/bwrap-command.ts';
import { alignClocks, type FirstInstructions, now, watchFirstInstructions } from '../support/first-instruction.ts';
import { type BenchPool, PLATFORM, startPool } from '../support/pool.ts';
import { scratchFolder } from '../support/scratch.ts';
import { type Command, ended, WAYS } from '../support/spawning.ts';

/** Between two samples, so that each meets an idle machine. */
const PAUSE_MS = 10;

export function startFigures(size: Size): Figure[] {
  return [startFigure(size, 'none'), startFigure(size, 'bwrap')];
}

function startFigure(size: Size, sandbox: 'none' | 'bwrap'): Figure {
  const samples = size === 'full' ? 1_000 : 40;
  const limit = bareStart(samples, sandbox);
  const goals = ['p50', 'p99'].map((statistic) => ({ statistic, contender: 'builder', against: [limit.name], ratio: 4 }));
  return {
    name: `start-${sandbox}`,
    title: `Accepted by the server → first instruction of the script, idle, sandbox ${sandbox}`,
    statistics: ['p50', 'p99'].map((name) => ({ name, unit: 'ms', better: 'less' })),
    rounds: size === 'full' ? 5 : 3,
    contenders: [builder(samples, sandbox), limit],
    goals,
  };
}

function builder(samples: number, sandbox: 'none' | 'bwrap'): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `sandbox ${sandbox}, folder store, 1 worker, ${samples} runs one after another; from the run's createdAt, which has whole milliseconds`,
    open: async () => {
      checkPlace(sandbox);
      const pool = await startPool({ workers: 1, concurrency: 8, sandbox });
      const watched = watchFirstInstructions(pool.folder);
      return {
        measure: () => builderRound(pool, watched, samples),
        close: async () => {
          watched.close();
          await pool.close();
        },
      };
    },
  };
}

/** createdAt is written before the record is: the way into Redis counts as builder's. */
async function builderRound(pool: BenchPool, watched: FirstInstructions, samples: number): Promise<Values> {
  alignClocks();
  const ids: string[] = [];
  const tookMs: number[] = [];
  for (let n = 0; n < samples; n += 1) {
    await delay(PAUSE_MS);
    const first = watched.next();
    const { id, createdAt } = await pool.post<{ id: string; createdAt: string }>('/runs', { platform: PLATFORM, script: watched.script });
    tookMs.push((await first) - Date.parse(createdAt));
    ids.push(id);
    await pool.idle();
  }
  await pool.checkRuns(ids);
  return percentiles(tookMs);
}

function bareStart(samples: number, sandbox: 'none' | 'bwrap'): Contender {
  return {
    name: sandbox === 'none' ? 'Node spawn' : 'Node spawn of bwrap',
    kind: 'limit',
    setting: `/bin/sh -e of the same script, ${samples} one after another; from the call of spawn in the bench's own process`,
    open: async () => {
      checkPlace(sandbox);
      const folder = scratchFolder();
      const bwrap = sandbox === 'bwrap' ? takeBwrapCommand() : [];
      const watched = watchFirstInstructions(folder.path);
      writeFileSync(`${folder.path}/script.sh`, watched.script);
      const command = [...bwrap, '/bin/sh', '-e', `${folder.path}/script.sh`] as unknown as Command;
      return {
        measure: () => bareRound(command, watched, samples),
        close: async () => {
          watched.close();
          folder.remove();
        },
      };
    },
  };
}

async function bareRound(command: Command, watched: FirstInstructions, samples: number): Promise<Values> {
  const start = WAYS['spawn, small environment'] as (typeof WAYS)[string];
  alignClocks();
  const tookMs: number[] = [];
  for (let n = 0; n < samples; n += 1) {
    await delay(PAUSE_MS);
    const first = watched.next();
    const begunAtMs = now();
    const code = ended(start(command));
    const failed = code.then((is) => (is === 0 ? first : Promise.reject(new Void(`expected exit code 0, got ${is}`))));
    tookMs.push((await Promise.race([first, failed])) - begunAtMs);
    await failed;
  }
  return percentiles(tookMs);
}

/** bwrap shows a run its own /tmp: the pipe of this process must lie elsewhere. */
function checkPlace(sandbox: 'none' | 'bwrap'): void {
  const hidden = ['/tmp/', '/var/tmp/'].find((path) => realpathSync(ROOT).startsWith(path));
  if (sandbox === 'bwrap' && hidden !== undefined) throw new Missing(`expected a checkout that bwrap shows, got one below ${hidden}`);
}

function percentiles(tookMs: number[]): Values {
  return { p50: percentile(tookMs, 0.5), p99: percentile(tookMs, 0.99) };
}
