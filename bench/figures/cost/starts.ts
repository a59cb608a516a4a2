/** How soon programs are there. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { startRedis } from '../../../test/support/redis.ts';
import { BUILDER, startSystem } from '../../../test/support/system.ts';
import { type Contender, type Figure, Void } from '../../figure.ts';

const START = { name: 'start', unit: 'ms', better: 'less' } as const;
/** What `up` may take beside its Redis. */
const UP_MS = 1_500;

export function helpFigure(rounds: number): Figure {
  const program = (name: string, kind: Contender['kind'], args: string[]): Contender => ({
    name,
    kind,
    setting: 'from spawn to exit, the best of three; output ignored',
    open: async () => ({
      measure: async () => ({ start: Math.min(await endMs(args), await endMs(args), await endMs(args)) }),
      close: async () => undefined,
    }),
  });
  return {
    name: 'start-help',
    title: 'bin/builder --help',
    statistics: [START],
    goals: [{ statistic: 'start', contender: 'builder --help', against: ['node -e 0'], ratio: 2 }],
    contenders: [program('builder --help', 'builder', [BUILDER, '--help']), program('node -e 0', 'limit', ['-e', '0'])],
    rounds,
  };
}

async function endMs(args: string[]): Promise<number> {
  const begunAtMs = performance.now();
  const child = spawn(process.execPath, args, { stdio: 'ignore' });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Void(`expected ${args.join(' ')} to end with 0, got ${code}`);
  return performance.now() - begunAtMs;
}

export function upFigure(rounds: number): Figure {
  return {
    name: 'start-up',
    title: '`up` on an empty folder, from its start until it serves',
    statistics: [START],
    goals: [{ statistic: 'start', contender: 'builder up', against: ['Redis'], ratio: 1, allowance: UP_MS }],
    contenders: [
      {
        ...timed('builder up', 'builder', async () => (await startSystem('--sandbox', 'none')).stop),
        setting: 'with its Redis, a server and a worker; sandbox none, folder store, nothing there yet; until it tells its address',
      },
      { ...timed('Redis', 'limit', async () => (await startRedis()).stop), setting: 'AOF, nothing there yet; until it answers' },
    ],
    rounds,
  };
}

function timed(name: string, kind: Contender['kind'], start: () => Promise<() => Promise<void>>): Omit<Contender, 'setting'> {
  return {
    name,
    kind,
    open: async () => ({
      measure: async () => {
        const begunAtMs = performance.now();
        const stop = await start();
        const tookMs = performance.now() - begunAtMs;
        await stop();
        return { start: tookMs };
      },
      close: async () => undefined,
    }),
  };
}
