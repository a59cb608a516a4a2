/** What an idle system takes: server and worker together of a core, and what they ask Redis. */

import { setTimeout as delay } from 'node:timers/promises';
import { connect } from '../../../src/redis/connection.ts';
import { startSystem } from '../../../test/support/system.ts';
import type { Contender, Figure } from '../../figure.ts';
import { given } from '../../support/given.ts';
import { processorMs } from '../../support/processes.ts';
import { askedOver } from '../../support/redis-use.ts';

/** What a start leaves to be done: V8 looks through the heaps of both programs once more, 15 to 25 s after it. */
const SETTLE_MS = 26_000;

export function idleFigure(o: { forMs: number; rounds: number; platforms: number[] }): Figure {
  const ours = o.platforms.map((platforms) => idle(platforms, o.forMs));
  const limit = given('1 %, 10/s', { processor: 1, requests: 10, commands: 10 });
  return {
    name: 'idle',
    title: 'an idle server and worker, as `up` starts them',
    statistics: [
      { name: 'processor', unit: '% of a core', better: 'less' },
      { name: 'requests', unit: 'requests/s to Redis', better: 'less' },
      { name: 'commands', unit: 'commands/s in Redis', better: 'less' },
    ],
    // Each platform has a queue of its own, of which BullMQ asks; so the goal for all commands is that of one.
    goals: ours.flatMap(({ name }, index) =>
      ['processor', 'requests', ...(index === 0 ? ['commands'] : [])].map((statistic) => ({
        statistic,
        contender: name,
        against: [limit.name],
        ratio: 1,
      })),
    ),
    contenders: [...ours, limit],
    rounds: o.rounds,
  };
}

function idle(platforms: number, forMs: number): Contender {
  return {
    name: platforms === 1 ? 'builder' : `builder, ${platforms} platforms`,
    kind: 'builder',
    setting: `a server and a worker, sandbox none, folder store, ${platforms} platform${platforms === 1 ? '' : 's'}; over ${forMs / 1_000} s, ${SETTLE_MS / 1_000} s after the start; requests: what clients send; commands: with those inside scripts`,
    open: async () => {
      const more = Array.from({ length: platforms - 1 }, (_, n) => ['--platform', `more-${n}`]).flat();
      const system = await startSystem('--sandbox', 'none', ...more);
      const pids = [await system.pid('server'), await system.pid('worker')];
      const usedMs = (): number => pids.reduce((sum, pid) => sum + processorMs(pid), 0);
      const redis = connect(`unix:${system.dir}/redis.sock`, 'command');
      const settledAtMs = performance.now() + SETTLE_MS;
      return {
        measure: async () => {
          await delay(Math.max(0, settledAtMs - performance.now()));
          const [beforeMs, begunAtMs] = [usedMs(), performance.now()];
          const asked = await askedOver(redis, forMs);
          return { processor: (100 * (usedMs() - beforeMs)) / (performance.now() - begunAtMs), ...asked };
        },
        close: async () => {
          redis.disconnect();
          await system.stop();
        },
      };
    },
  };
}
