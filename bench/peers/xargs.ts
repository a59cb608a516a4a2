/** What a machine can start at all, as far as a shell's own tools show it: `xargs -P`. */
import { spawn } from 'node:child_process';
import { type Contender, Void } from '../figure.ts';
import { type Command, ended, TRUE } from '../support/spawning.ts';

export function xargs(o: { runs: number; atOnce: number }): Contender {
  return {
    name: `xargs -P ${o.atOnce}`,
    kind: 'limit',
    setting: `${TRUE.join(' ')}, one process each`,
    open: async () => ({
      measure: async () => {
        const begunAtMs = performance.now();
        await feedXargs({ ...o, command: TRUE, env: { PATH: process.env.PATH ?? '' } });
        return { rate: (o.runs * 1000) / (performance.now() - begunAtMs) };
      },
      close: async () => undefined,
    }),
  };
}

/** Executes a command `runs` times, each with its number as a last argument. Throws Void unless all of them ended with 0. */
export async function feedXargs(o: { runs: number; atOnce: number; command: Command; env: Record<string, string> }): Promise<void> {
  const child = spawn('xargs', ['-P', String(o.atOnce), '-n', '1', ...o.command], { env: o.env, stdio: ['pipe', 'ignore', 'inherit'] });
  child.stdin?.end(Array.from({ length: o.runs }, (_, n) => `${n}\n`).join(''));
  const code = await ended(child);
  if (code !== 0) throw new Void(`expected xargs to end with 0, got ${code}`);
}
