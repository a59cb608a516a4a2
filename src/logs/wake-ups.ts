/** Wake-ups for followers: one connection blocks on the streams of the shards that are followed, for any number of followers. */
import type { Redis } from '../redis/connection.ts';
import { keys, shardOf } from '../redis/keys.ts';

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
/** A read that is on its way is not blocked yet. */
const UNBLOCK_AGAIN_MS = 5;

/** Who follows, by run, and what is read for them, by shard: the streams' positions, null where none is known yet. */
interface Followed {
  runs: Map<string, Set<() => void>>;
  shards: Map<string, { runs: Set<string>; position: string | null }>;
}

/** `connection` is its alone: it blocks. `commands` does not: with it a blocked read is ended when there is one stream more to read. */
export function createWakeUps(connection: Redis, commands: Redis): WakeUps {
  const followed: Followed = { runs: new Map(), shards: new Map() };
  const reader = createReader(connection, commands, followed);
  let closed = false;
  let giveUp = (): void => undefined;
  /** Until it is over, or all is: a race with one promise for that would leave something with it at every wake-up. */
  const unlessClosed = (work: Promise<unknown>): Promise<unknown> =>
    new Promise((resolve, reject) => {
      giveUp = () => resolve(undefined);
      work.then(resolve, reject);
    });
  const loop = (async (): Promise<void> => {
    while (!closed) {
      try {
        // While Redis is away a command that waits for it is never answered, not even by closing the connection.
        await unlessClosed(reader.wakeNext());
      } catch {
        // Redis is away: followers look by themselves every limits.followPollMs, and the connection comes back by itself.
        if (!closed) await unlessClosed(new Promise((resolve) => setTimeout(resolve, PAUSE_MS)));
      }
    }
  })();
  return {
    follow: (run) => {
      const shard = keys.wake(shardOf(run));
      const known = followed.shards.get(shard);
      followed.shards.set(shard, { runs: (known?.runs ?? new Set()).add(run), position: known?.position ?? null });
      if (known === undefined) reader.look();
      return createFollower(followed.runs, run, () => {
        const left = followed.shards.get(shard);
        left?.runs.delete(run);
        if (left?.runs.size === 0) followed.shards.delete(shard);
      });
    },
    close: async () => {
      closed = true;
      giveUp();
      connection.disconnect();
      await loop;
    },
  };
}

interface Reader {
  /** Resolves after each answer of Redis, and when there may be one stream more to read. */
  wakeNext(): Promise<void>;
  look(): void;
}

function createReader(connection: Redis, commands: Redis, followed: Followed): Reader {
  let clientId: number | null = null;
  let reading = false;
  let resume = (): void => undefined;
  connection.on('close', () => {
    clientId = null;
  });
  const unblock = async (): Promise<void> => {
    while (reading && clientId !== null && hasNew(followed)) {
      if ((await commands.client('UNBLOCK', clientId)) === 1) return;
      await new Promise((resolve) => setTimeout(resolve, UNBLOCK_AGAIN_MS));
    }
  };
  return {
    look: () => {
      resume();
      unblock().catch(() => undefined);
    },
    wakeNext: async () => {
      if (followed.shards.size === 0) {
        await new Promise<void>((resolve) => {
          resume = resolve;
        });
      }
      // A Redis may refuse that to its users: then a new follower's first wake-up comes with the next look.
      clientId ??= Number(await connection.client('ID').catch(() => 0)) || null;
      // Until there is none without: what comes behind the read that follows ends it.
      while (hasNew(followed)) wake(followed, await fixPositions(connection, followed));
      reading = true;
      try {
        wake(followed, await nextWakeUps(connection, followed));
      } finally {
        reading = false;
      }
    },
  };
}

function hasNew({ shards }: Followed): boolean {
  return [...shards.values()].some(({ position }) => position === null);
}

function wake(followed: Followed, runs: Iterable<string>): void {
  for (const run of runs) for (const one of followed.runs.get(run) ?? []) one();
}

function createFollower(followers: Map<string, Set<() => void>>, run: string, onLast: () => void): Follower {
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
      if (ofRun.size > 0 || followers.get(run) !== ofRun) return;
      followers.delete(run);
      onLast();
    },
  };
}

/** `$` would lose what comes between two reads: each stream's position is its last id, asked for once. What came before may be news. */
async function fixPositions(connection: Redis, { shards }: Followed): Promise<string[]> {
  const open = [...shards].filter(([, { position }]) => position === null);
  const pipeline = connection.pipeline();
  for (const [key] of open) pipeline.xrevrange(key, '+', '-', 'COUNT', 1);
  const answers = (await pipeline.exec()) ?? [];
  return open.flatMap(([, shard], index) => {
    const entries = answers[index]?.[1] as [string, string[]][] | undefined;
    shard.position = entries?.[0]?.[0] ?? '0-0';
    return [...shard.runs];
  });
}

async function nextWakeUps(connection: Redis, { shards }: Followed): Promise<Set<string>> {
  const read = [...shards].filter(([, { position }]) => position !== null);
  const runs = new Set<string>();
  if (read.length === 0) return runs;
  const positions = read.map(([, { position }]) => String(position));
  const answer = await connection.xread('BLOCK', BLOCK_MS, 'STREAMS', ...read.map(([key]) => key), ...positions);
  for (const [key, entries] of (answer ?? []) as [string, [string, string[]][]][]) {
    const shard = shards.get(key);
    if (shard !== undefined) shard.position = entries.at(-1)?.[0] ?? shard.position;
    for (const [, fields] of entries) runs.add(fields[1] ?? '');
  }
  return runs;
}
