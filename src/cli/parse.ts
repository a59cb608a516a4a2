/** Arguments of one command, read by yargs as its description says; every fault is a usage error of one line. */
import yargs, { type Argv } from 'yargs';
import { BuilderError } from '../service/errors.ts';
import { type Command, GLOBAL_OPTIONS, type GlobalValues, type Option } from './command.ts';

export type Parsed = { kind: 'help'; text: string } | { kind: 'command'; command: Command; args: Record<string, unknown> & GlobalValues };

export interface ParseOptions {
  /** The words before the arguments that are the program's name: `builder` or `builder template`. */
  program: string;
  describe: string;
  commands: Command[];
  /** The command's own name first. */
  args: string[];
  columns: number;
}

/** Before what yargs would take for options: a lone `-`, and what follows `--`. No argument can hold a NUL. */
const PLAIN = '\0';

const CONFIGURATION = {
  'greedy-arrays': false,
  'boolean-negation': false,
  'dot-notation': false,
  'camel-case-expansion': false,
  'parse-numbers': false,
  'parse-positional-numbers': false,
};

export async function parseCommand(o: ParseOptions): Promise<Parsed> {
  let found: Command | undefined;
  let failure: string | undefined;
  const parser = yargs()
    .scriptName(o.program)
    .usage(`$0 COMMAND\n\n${o.describe}`)
    .locale('en')
    .version(false)
    .help()
    .alias('help', 'h')
    .exitProcess(false)
    .wrap(Math.min(100, o.columns))
    .parserConfiguration(CONFIGURATION)
    .strict()
    .demandCommand(1, `expected one of ${o.commands.map((one) => one.name).join(', ')}`)
    .fail((message, error) => {
      failure ??= message ?? error?.message;
      throw error ?? new Error(message);
    });
  addOptions(parser, GLOBAL_OPTIONS);
  for (const command of o.commands) {
    parser.command(
      usageOf(command),
      command.describe,
      (one) => describe(one, command),
      () => {
        found = command;
      },
    );
  }
  const command = o.commands.find((one) => one.name === o.args[0]);
  const { values, help } = await parse(parser, prepare(o.args, { ...GLOBAL_OPTIONS, ...command?.options }));
  if (help !== '' && failure === undefined) return { kind: 'help', text: `${help}\n` };
  const rest = Array.isArray(values._) ? values._.slice(1) : [];
  if (failure === undefined && rest.length > 0) failure = `Unknown argument: ${rest[0]}`;
  if (found === undefined || failure !== undefined) throw new BuilderError('usage', inOurWords(failure ?? 'expected a command', command));
  return { kind: 'command', command: found, args: checked(values, found) };
}

/** `observe <run>`: the name with the arguments that have no flag. */
export function usageOf(command: Command): string {
  const words = Object.entries(command.positionals).map(([name, { optional, many }]) => {
    const inner = many ? `${name}..` : name;
    return optional ? `[${inner}]` : `<${inner}>`;
  });
  return [command.name, ...words].join(' ');
}

async function parse(parser: Argv, args: string[]): Promise<{ values: Record<string, unknown>; help: string }> {
  let help = '';
  try {
    const values = await parser.parseAsync(args, {}, (_error, _values, output) => {
      help = output;
    });
    return { values, help };
  } catch {
    return { values: {}, help: '' };
  }
}

function describe(parser: Argv, command: Command): Argv {
  for (const [name, positional] of Object.entries(command.positionals)) {
    parser.positional(name, { type: 'string', describe: positional.describe });
  }
  addOptions(parser, command.options);
  return parser;
}

function addOptions(parser: Argv, options: Record<string, Option>): void {
  for (const [name, { kind, describe: text, alias, hidden }] of Object.entries(options)) {
    parser.option(name, {
      type: kind === 'flag' ? 'boolean' : 'string',
      array: kind === 'list',
      requiresArg: kind !== 'flag',
      describe: text,
      hidden: hidden === true,
      ...(alias === undefined ? {} : { alias }),
    });
  }
}

/** A lone `-` and what follows `--` are hidden from yargs, and `-oDIR` becomes `-o DIR`, which yargs would take for four flags. */
function prepare(args: string[], options: Record<string, Option>): string[] {
  const taking = Object.entries(options).filter(([, option]) => option.kind !== 'flag');
  const letters = taking.flatMap(([name, { alias }]) => [name, alias ?? '']).filter((name) => name.length === 1);
  const end = args.includes('--') ? args.indexOf('--') : args.length;
  return args.flatMap((arg, index) => {
    if (index === end) return [];
    if (arg === '-' || index > end) return [PLAIN + arg];
    const joined = index < end && /^-[^-=][^=]/.test(arg) && letters.includes(arg.charAt(1));
    return joined ? [arg.slice(0, 2), arg.slice(2)] : [arg];
  });
}

/** The values under the names of the description alone; throws where one was given twice that is taken once. */
function checked(values: Record<string, unknown>, command: Command): Record<string, unknown> & GlobalValues {
  const args: Record<string, unknown> = {};
  for (const [name, option] of Object.entries<Option>({ ...GLOBAL_OPTIONS, ...command.options })) {
    const value = restored(values[name]);
    if (option.kind !== 'list' && Array.isArray(value))
      throw new BuilderError('usage', `expected ${dashed(name)} once, got it ${value.length} times`);
    args[name] = option.kind === 'list' ? (value ?? []) : option.kind === 'flag' ? value === true : value;
    checkChoice(dashed(name), args[name], option.choices);
  }
  for (const [name, { many, choices }] of Object.entries(command.positionals)) {
    args[name] = restored(values[name]) ?? (many ? [] : undefined);
    checkChoice(name, args[name], choices);
  }
  return args as Record<string, unknown> & GlobalValues;
}

function checkChoice(what: string, value: unknown, choices: readonly string[] | undefined): void {
  if (choices === undefined || value === undefined || choices.includes(String(value))) return;
  throw new BuilderError('usage', `expected ${what} ${choices.join(', ')}, got ${JSON.stringify(value)}`);
}

function restored(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(restored);
  return typeof value === 'string' && value.startsWith(PLAIN) ? value.slice(PLAIN.length) : value;
}

function inOurWords(message: string, command: Command | undefined): string {
  const text = message
    .replaceAll(PLAIN, '')
    .replace(/\s*\n\s*/g, ' ')
    .trim();
  const unknown = /^Unknown (?:argument|command)s?: (.*)$/.exec(text)?.[1];
  if (unknown !== undefined) return `unknown argument ${unknown}`;
  const lacking = /^Not enough arguments following: (.*)$/.exec(text)?.[1];
  if (lacking !== undefined) return `expected a value after ${dashed(lacking)}`;
  if (text.startsWith('Not enough non-option arguments') && command !== undefined) return `missing argument: expected ${usageOf(command)}`;
  return text;
}

function dashed(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}
