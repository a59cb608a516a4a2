/** Commands that Redis takes together, or not at all. */
import { createRequire } from 'node:module';
import type { Redis } from './connection.ts';

/** As in connection.ts. */
const { Command }: typeof import('ioredis') = createRequire(import.meta.url)('ioredis');

export type CommandLine = [name: string, ...args: (string | number | Buffer)[]];

/**
 * Resolves with an answer to each, which is an error where that one failed. Rejects where Redis took none of them, or it is not known whether it did.
 * As a transaction of ioredis' own, but for the one more buffer in which that puts all that it sends: with large arguments it takes longer than the rest.
 */
export async function transact(redis: Redis, lines: readonly CommandLine[]): Promise<unknown[]> {
  const commands = [['multi'] as CommandLine, ...lines, ['exec'] as CommandLine].map(
    ([name, ...args]) => new Command(name, args, { replyEncoding: 'utf8' }),
  );
  const stream = writtenTogether(redis, commands.length);
  for (const [index, command] of commands.entries()) {
    // By these ioredis knows, when the connection breaks with a part of them answered, that the rest is not to be sent again without that.
    command.pipelineIndex = index;
    command.inTransaction = true;
    redis.sendCommand(command, stream);
  }
  const answers = await Promise.allSettled(commands.map(({ promise }) => promise));
  // The first fault is the reason; what comes of it, a transaction that was discarded, says less.
  for (const answer of answers) if (answer.status === 'rejected') throw answer.reason;
  return (answers.at(-1) as PromiseFulfilledResult<unknown[]>).value;
}

/**
 * Writes nothing before it has all: a connection that turns out to be broken with the first would have the others wait for the next one, which is
 * then given a transaction without its end.
 */
function writtenTogether(redis: Redis, count: number): NonNullable<Parameters<Redis['sendCommand']>[1]> {
  let parts: (string | Buffer)[] = [];
  return {
    isPipeline: true,
    destination: { redis },
    write: (part: string | Buffer) => {
      parts.push(part);
      if (parts.length < count) return;
      redis.stream.cork();
      for (const each of parts) redis.stream.write(each);
      redis.stream.uncork();
      // It may have to be sent again.
      parts = [];
    },
  };
}
