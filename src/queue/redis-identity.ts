/** Recognising a Redis that came back without what it had. */
import { randomUUID } from 'node:crypto';
import { keys } from '../redis/keys.ts';
import type { Queues } from './queues.ts';

/** Tells in the log, once per loss, that another Redis answers than before; each call looks once. */
export function createIdentityCheck(queues: Queues): () => Promise<void> {
  let known: string | null = null;
  return async () => {
    await queues.redis.set(keys.identity, randomUUID(), 'NX');
    const found = await queues.redis.get(keys.identity);
    if (known !== null && found !== known) {
      queues.logger.error(
        'Redis came back without its data: jobs, schedules, templates, tokens, waiting runs and records are lost; what runs goes on and is recorded; history stays in the store',
      );
    }
    known = found;
  };
}
