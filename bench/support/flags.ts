/** The flags of a program of the bench; a wrong one is told in a line and ends it with 2. */
import { type ParseArgsConfig, parseArgs } from 'node:util';

type Options = NonNullable<ParseArgsConfig['options']>;
type Flags<T extends Options> = ReturnType<typeof parseArgs<{ options: T }>>['values'];

export function flagsOf<T extends Options>(options: T): Flags<T> {
  try {
    return parseArgs({ options }).values;
  } catch (cause) {
    const known = Object.keys(options).map((name) => `--${name}`);
    process.stderr.write(`bench: expected ${known.join(', ')}, got: ${(cause as Error).message}\n`);
    process.exit(2);
  }
}
