/** Commands that Redis takes together, or not at all. */
import { createRequire } from 'node:module';
import type { Redis } from './connection.ts';

/** As in connection.ts. */
const { Command }: typeof import('ioredis') = createRequire(import.meta.url)('ioredis');

export type CommandLine = [name: string, ...args: (string | number | Buffer)[]];

/**
 * Resolves with an answer to each, which is an error where that one failed. Rejects where Redis took none of them, or it is not known whether it did.
 * A transaction of ioredis' own puts all that it sends together in one more buffer: with large arguments that takes longer than the rest.
 */
export async function transact(redis: Redis, lines: readonly CommandLine[]): Promise<unknown[]> {
  const sent = [['multi'] as CommandLine, ...lines, ['exec'] as CommandLine].map(([name, ...args], index) => {
    const command = new Command(name, args, { replyEncoding: 'utf8' });
    // As a pipeline's: when the connection breaks with a part of them answered, ioredis is not to send the rest again without that.
    command.pipelineIndex = index;
    command.inTransaction = true;
    redis.sendCommand(command);
    return command.promise;
  });
  const answers = await Promise.allSettled(sent);
  // The first fault is the reason; what comes of it, a transaction that was discarded, says less.
  const refused = answers.find(({ status }) => status === 'rejected');
  if (refused !== undefined) throw (refused as PromiseRejectedResult).reason;
  return (answers.at(-1) as PromiseFulfilledResult<unknown[]>).value;
}
