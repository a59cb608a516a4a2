/** Connections to Redis: the one place that makes them. */
import { createRequire } from 'node:module';
import type { Redis, RedisOptions } from 'ioredis';
import { limits } from '../job/limits.ts';
import { BuilderError, oneLine } from '../service/errors.ts';

export type { Redis };

/** As the CommonJS package that it is: `import` would have Node parse its files twice. */
const { Redis: Client }: typeof import('ioredis') = createRequire(import.meta.url)('ioredis');

/**
 * `command`: fails a command at once while Redis is away (for answers to people). `patient`: waits and repeats, for
 * BullMQ and blocking reads, whose callers have bounds of their own.
 */
export type ConnectionKind = 'command' | 'patient';

export function connect(redisUrl: string, kind: ConnectionKind): Redis {
  const options: RedisOptions = {
    maxRetriesPerRequest: kind === 'command' ? 1 : null,
    // A network that drops packets breaks no connection: without these a program would wait for its answers for many minutes.
    socketTimeout: kind === 'command' ? limits.redisAnswerMsMax : limits.redisBlockedAnswerMsMax,
    // ioredis keeps what was sent over a dead connection until there is a good one, whatever maxRetriesPerRequest says.
    ...(kind === 'command' ? { commandTimeout: 2 * limits.redisAnswerMsMax } : {}),
    enableOfflineQueue: true,
    enableReadyCheck: true,
    connectTimeout: 5_000,
    keepAlive: 10_000,
    retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 6), 2_000),
  };
  const redis = new Client(
    redisUrl.startsWith('unix:')
      ? { ...options, replyMapping: 'legacy', path: redisUrl.slice('unix:'.length) }
      : { ...options, ...fromUrl(redisUrl), replyMapping: 'legacy' },
  );
  // Without a listener Node would end the program; commands themselves report what failed.
  redis.on('error', () => undefined);
  // Each log that is being published listens: as many as there are runs, and none stays. BullMQ adds to the number.
  redis.setMaxListeners(Number.POSITIVE_INFINITY);
  return redis;
}

/** Waits until Redis answers, at most limits.startWaitMs; then throws `redis-unavailable` on one line, without the password. */
export async function waitForRedis(redis: Redis, redisUrl: string): Promise<void> {
  const deadline = performance.now() + limits.startWaitMs;
  let last = 'no answer';
  const remember = (cause: Error): void => {
    last = oneLine(cause);
  };
  redis.on('error', remember);
  try {
    for (;;) {
      try {
        await redis.ping();
        return;
      } catch (cause) {
        if (!/max retries/i.test(oneLine(cause))) last = oneLine(cause);
        if (performance.now() > deadline || /NOAUTH|WRONGPASS/.test(last)) {
          throw new BuilderError('redis-unavailable', `expected Redis at ${withoutPassword(redisUrl)} (BUILDER_REDIS_URL), got ${last}`, {
            cause,
          });
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  } finally {
    redis.off('error', remember);
  }
}

/** True for the errors that ioredis gives while Redis cannot be reached or cannot serve. */
export function isRedisAway(thrown: unknown): boolean {
  return AWAY.test(oneLine(thrown));
}

const AWAY = new RegExp(
  [
    'max retries per request|Connection is closed|aborted due to connection close|Socket timeout|Command timed out|isn.t writeable',
    'ECONNREFUSED|ECONNRESET|EPIPE|ENOENT|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH',
    '^(EXECABORT Transaction discarded because of: )?(LOADING|READONLY|OOM|MASTERDOWN|MISCONF|NOREPLICAS|CLUSTERDOWN|BUSY)\\b',
  ].join('|'),
  'i',
);

function fromUrl(redisUrl: string): RedisOptions {
  const url = new URL(redisUrl);
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 6379),
    db: Number(url.pathname.slice(1) || 0),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(url.protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

function withoutPassword(redisUrl: string): string {
  if (!URL.canParse(redisUrl)) return redisUrl;
  const url = new URL(redisUrl);
  if (url.password !== '') url.password = '***';
  return url.href;
}
