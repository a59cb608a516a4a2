/** Wake-ups for followers: one connection blocks on all shards' streams, for any number of followers. */
import { limits } from '../job/limits.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';

export interface Follower {
  /** Resolves at the next wake-up since the last call, at once if one came in between; in any case after a time, or when aborted. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** The next wait is none. */
  again(): void;
  close(): void;
}

export interface WakeUps {
  follow(run: string): Follower;
  close(): Promise<void>;
}

const BLOCK_MS = 5_000;
const PAUSE_MS = 500;

/** `connection` is its alone: it blocks. */
export function createWakeUps(connection: Redis): WakeUps {
  const followers = new Map<string, Set<() => void>>();
  const positions = new Map<string, string>();
  for (let shard = 0; shard < limits.logShards; shard += 1) positions.set(keys.wake(`log-${String(shard).padStart(2, '0')}`), '$');
  let closed = false;
  let giveUp = (): void => undefined;
  const closing = new Promise<void>((resolve) => {
    giveUp = resolve;
  });
  const loop = (async (): Promise<void> => {
    while (!closed) {
      try {
        // While Redis is away a command that waits for it is never answered, not even by closing the connection.
        await Promise.race([wakeNext(connection, positions, followers), closing]);
      } catch {
        // Redis is away: followers look by themselves every limits.followPollMs, and the connection comes back by itself.
        if (!closed) await Promise.race([new Promise((resolve) => setTimeout(resolve, PAUSE_MS)), closing]);
      }
    }
  })();
  return {
    follow: (run) => createFollower(followers, run),
    close: async () => {
      closed = true;
      giveUp();
      connection.disconnect();
      await loop;
    },
  };
}

function createFollower(followers: Map<string, Set<() => void>>, run: string): Follower {
  let pending = false;
  let resume: (() => void) | null = null;
  const wake = (): void => {
    pending = true;
    resume?.();
  };
  const ofRun = followers.get(run) ?? new Set();
  followers.set(run, ofRun.add(wake));
  return {
    wait: async (timeoutMs, signal) => {
      if (!pending && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, timeoutMs);
          resume = () => {
            clearTimeout(timer);
            signal.removeEventListener('abort', wake);
            resolve();
          };
          signal.addEventListener('abort', wake, { once: true });
        });
      }
      resume = null;
      signal.removeEventListener('abort', wake);
      pending = false;
    },
    again: () => {
      pending = true;
    },
    close: () => {
      ofRun.delete(wake);
      if (ofRun.size === 0) followers.delete(run);
    },
  };
}

async function wakeNext(connection: Redis, positions: Map<string, string>, followers: Map<string, Set<() => void>>): Promise<void> {
  await fixPositions(connection, positions);
  for (const run of await nextWakeUps(connection, positions)) for (const wake of followers.get(run) ?? []) wake();
}

/** `$` would lose what comes between two reads: each stream's position is its last id, asked for once. */
async function fixPositions(connection: Redis, positions: Map<string, string>): Promise<void> {
  const open = [...positions].filter(([, position]) => position === '$').map(([key]) => key);
  if (open.length === 0) return;
  const pipeline = connection.pipeline();
  for (const key of open) pipeline.xrevrange(key, '+', '-', 'COUNT', 1);
  const answers = (await pipeline.exec()) ?? [];
  for (const [index, key] of open.entries()) {
    const entries = answers[index]?.[1] as [string, string[]][] | undefined;
    positions.set(key, entries?.[0]?.[0] ?? '0-0');
  }
}

async function nextWakeUps(connection: Redis, positions: Map<string, string>): Promise<Set<string>> {
  const answer = await connection.xread('BLOCK', BLOCK_MS, 'STREAMS', ...positions.keys(), ...positions.values());
  const runs = new Set<string>();
  for (const [key, entries] of (answer ?? []) as [string, [string, string[]][]][]) {
    positions.set(key, entries.at(-1)?.[0] ?? '$');
    for (const [, fields] of entries) runs.add(fields[1] ?? '');
  }
  return runs;
}
