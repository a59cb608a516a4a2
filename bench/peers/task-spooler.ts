/** Peer: task-spooler, a queue of shell commands for one user of one machine. The fastest way that was found to fill it: by xargs, and no output kept. */
import { execFileSync } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { type Contender, Missing, Void } from '../figure.ts';
import { installed } from '../support/programs.ts';
import { scratchFolder } from '../support/scratch.ts';
import { feedXargs } from './xargs.ts';

const POLL_MS = 10;

export function taskSpooler(o: { runs: number; slots: number }): Contender {
  return {
    name: 'task-spooler',
    kind: 'peer',
    setting: `${o.slots} slots, jobs added ${o.slots} at a time, output not kept (tsp -n)`,
    open: async () => {
      if (!installed('tsp', '-V')) throw new Missing('task-spooler is not installed: apt-get install task-spooler');
      const folder = scratchFolder();
      const env = {
        PATH: process.env.PATH ?? '',
        TMPDIR: folder.path,
        TS_SOCKET: `${folder.path}/socket`,
        TS_SLOTS: String(o.slots),
        TS_MAXFINISHED: String(o.runs + 1),
      };
      const tsp = (...args: string[]): string => execFileSync('tsp', args, { env, encoding: 'utf8', maxBuffer: 2 ** 26 });
      tsp('-l');
      return {
        measure: async () => {
          const begunAtMs = performance.now();
          await feedXargs({ runs: o.runs, atOnce: o.slots, command: ['tsp', '-n', '/bin/sh', '-c', 'true'], env });
          let open = openOf(tsp('-l'));
          for (; open > 0; open = openOf(tsp('-l'))) await delay(POLL_MS);
          const tookMs = performance.now() - begunAtMs;
          const done = tsp('-l').match(/^\d+\s+finished\s+\S+\s+0\s/gm)?.length ?? 0;
          tsp('-C');
          if (done !== o.runs) throw new Void(`expected ${o.runs} jobs that ended with 0, got ${done}`);
          return { rate: (o.runs * 1000) / tookMs };
        },
        close: async () => {
          tsp('-K');
          folder.remove();
        },
      };
    },
  };
}

function openOf(list: string): number {
  return list.match(/^\d+\s+(?:queued|running|allocating)\s/gm)?.length ?? 0;
}
