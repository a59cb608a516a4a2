/** `/healthz`: the process is alive. `/readyz`: Redis and the store answer. */
import type { FastifyInstance } from 'fastify';
import { limits } from '../../job/limits.ts';
import { isRedisAway } from '../../redis/connection.ts';
import { asBuilderError, BuilderError, oneLine } from '../../service/errors.ts';
import type { ServerContext } from '../server-context.ts';

const open = { config: { public: true } } as const;

export function healthRoutes(app: FastifyInstance, { queues, store }: ServerContext): void {
  const redis = async (): Promise<void> => {
    await queues.redis.ping().catch((cause) => {
      throw new BuilderError('redis-unavailable', `expected Redis to answer, got ${isRedisAway(cause) ? 'no answer' : oneLine(cause)}`);
    });
  };
  const ready = remembered(async () => {
    const [ofRedis, ofStore] = await Promise.all([
      faultOf(redis(), 'redis-unavailable', 'Redis'),
      faultOf(store.check(), 'store-unavailable', 'storage'),
    ]);
    const faults = [ofRedis, ofStore].filter((fault) => fault !== null);
    const [first] = faults;
    if (first !== undefined) throw new BuilderError(first.code, faults.map(({ message }) => message).join('; '));
  });
  app.get('/healthz', open, () => ({ status: 'ok' }));
  app.get('/readyz', open, async () => {
    await ready();
    return { status: 'ready' };
  });
}

/** Null when it answered well, in time. */
async function faultOf(asked: Promise<void>, code: 'redis-unavailable' | 'store-unavailable', name: string): Promise<BuilderError | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const fault = new BuilderError(code, `expected ${name} to answer within ${limits.storeCheckMsMax / 1000} s, got nothing`);
    timer = setTimeout(() => reject(fault), limits.storeCheckMsMax);
  });
  try {
    await Promise.race([asked, late]);
    return null;
  } catch (cause) {
    return asBuilderError(cause);
  } finally {
    clearTimeout(timer);
  }
}

/** However many ask, the question is put once in limits.readyAnswerMs. */
function remembered(ask: () => Promise<void>): () => Promise<void> {
  let answer: Promise<void> | null = null;
  let untilMs = 0;
  return () => {
    if (answer === null || performance.now() > untilMs) {
      answer = ask();
      untilMs = Number.POSITIVE_INFINITY;
      const keep = (): void => {
        untilMs = performance.now() + limits.readyAnswerMs;
      };
      answer.then(keep, keep);
    }
    return answer;
  };
}
