/** What servers do for one run after the other. */
import { oneLine } from '../service/errors.ts';
import type { Queues } from './queues.ts';

/** One run that cannot be seen to, its log's store away say, holds up no other; the next round tries it again. */
export async function eachRun(queues: Queues, ids: string[], work: (id: string) => Promise<void>): Promise<void> {
  for (const id of ids) {
    await work(id).catch((cause: unknown) => queues.logger.debug({ run: id, error: oneLine(cause) }, 'a run waits for a server'));
  }
}
