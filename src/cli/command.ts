/** How a command describes itself: as data, so that the parser, the help and the completion all read one description. */
import type { Client } from './client.ts';
import type { Io } from './io.ts';
import type { Output } from './output.ts';

/** What the shell's completion asks the server for; `files` are the shell's own. */
export type Words = 'runs' | 'jobs' | 'runs-and-jobs' | 'platforms' | 'templates' | 'tokens' | 'files';

export interface Positional {
  describe: string;
  optional?: true;
  /** Takes all that follow; only the last may. */
  many?: true;
  complete?: Words;
  /** The only words that may stand here. */
  choices?: readonly string[];
}

/** `text` takes a value, `list` may be given several times, `flag` takes none. */
export interface Option {
  kind: 'text' | 'list' | 'flag';
  describe: string;
  alias?: string;
  hidden?: true;
  complete?: Words;
  /** The only values it takes. */
  choices?: readonly string[];
}

export type Positionals = Record<string, Positional>;
export type Options = Record<string, Option>;

type Text<T> = T extends { choices: readonly (infer C)[] } ? C : string;
type PositionalValue<P extends Positional> = P extends { many: true }
  ? string[]
  : P extends { optional: true }
    ? Text<P> | undefined
    : Text<P>;
type OptionValue<O extends Option> = O['kind'] extends 'flag' ? boolean : O['kind'] extends 'list' ? string[] : Text<O> | undefined;
/** The arguments of a command, as its description promises them. */
export type Values<P extends Positionals, O extends Options> = { [K in keyof P]: PositionalValue<P[K]> } & {
  [K in keyof O]: OptionValue<O[K]>;
};

/** What a command works with while it runs. */
export interface Session {
  io: Io;
  output: Output;
  /** The server's client, made at the first call; throws what is wrong with its configuration. */
  client(): Client;
  /** Every command, for those that speak of the others. */
  catalogue: Readonly<Record<string, Entry>>;
}

export interface Command {
  name: string;
  describe: string;
  positionals: Positionals;
  options: Options;
  /** Answers the exit code. */
  run(args: Record<string, unknown>, session: Session): Promise<number>;
}

export interface CommandModule {
  commands: Command[];
}

/** A command's line in the catalogue. */
export interface Entry {
  group: 'Programs' | 'Jobs' | 'Runs' | 'Administration';
  describe: string;
  /** Absent for the programs, which bin/builder starts. */
  load?: () => Promise<CommandModule>;
  /** Its first argument names one of the module's commands. */
  nested?: true;
}

interface Definition<P extends Positionals, O extends Options> {
  name: string;
  describe: string;
  positionals: P;
  options: O;
  run(args: Values<P, O>, session: Session): Promise<number>;
}

/** Types a command's arguments from its description. */
export function defineCommand<const P extends Positionals, const O extends Options>(definition: Definition<P, O>): Command {
  return definition as unknown as Command;
}

export const GLOBAL_OPTIONS = {
  server: { kind: 'text', describe: 'URL of the server' },
  token: { kind: 'text', describe: 'Token for it' },
  json: { kind: 'flag', describe: 'JSON on stdout, errors as JSON on stderr' },
} as const satisfies Options;
export type GlobalValues = Values<Record<never, never>, typeof GLOBAL_OPTIONS>;
