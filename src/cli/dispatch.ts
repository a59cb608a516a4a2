/** From the words of a command line to an exit code. */
import { asBuilderError, BuilderError } from '../service/errors.ts';
import { version } from '../service/version.ts';
import { CATALOGUE, helpText } from './catalogue.ts';
import { type Command, type CommandModule, GLOBAL_OPTIONS, type GlobalValues, type Session } from './command.ts';
import type { Io } from './io.ts';
import { createOutput } from './output.ts';

const COLUMNS_DEFAULT = 100;

/** Runs one command line; every error is told on stderr in one line. Never throws. */
export async function runCommandLine(args: string[], io: Io): Promise<number> {
  const output = createOutput(io, withoutPlain(args).includes('--json'));
  let helper = 'builder --help';
  try {
    const at = commandIndex(args);
    const name = args[at];
    if (name === undefined) {
      if (args.length > 0 && wantsVersion(args)) await output.show({ version: version() }, `${version()}\n`);
      else if (args.some(isHelp)) await output.data(helpText());
      else throw new BuilderError('usage', 'expected a command');
      return 0;
    }
    if (name === 'help' && at === 0 && args.length === 1) {
      await output.data(helpText());
      return 0;
    }
    const { commands, program } = await load(name);
    helper = `builder ${name} --help`;
    return await runOne({ name, program, commands, args: withFlagsBehind(args.slice(at), args.slice(0, at)), io });
  } catch (thrown) {
    const error = asBuilderError(thrown);
    output.fail(error, error.code === 'usage' ? `; see '${helper}'` : '');
    return error.exitCode;
  }
}

/** Global options may stand before the command; behind it they must not come behind `--`, where all is plain. */
function withFlagsBehind(args: string[], flags: string[]): string[] {
  const before = withoutPlain(args);
  return [...before, ...flags, ...args.slice(before.length)];
}

/** What stands before `--`. */
function withoutPlain(args: string[]): string[] {
  return args.includes('--') ? args.slice(0, args.indexOf('--')) : args;
}

interface One {
  name: string;
  program: string;
  commands: Command[];
  args: string[];
  io: Io;
}

async function runOne({ name, program, commands, args, io }: One): Promise<number> {
  const { parseCommand } = await import('./parse.ts');
  const nested = CATALOGUE[name]?.nested === true;
  const parsed = await parseCommand({
    program,
    describe: CATALOGUE[name]?.describe ?? '',
    commands,
    args: nested ? args.slice(1) : args,
    columns: io.stdout.columns ?? COLUMNS_DEFAULT,
  });
  const output = createOutput(io, parsed.kind === 'command' && parsed.args.json);
  if (parsed.kind === 'help') {
    await output.data(parsed.text);
    return 0;
  }
  const { createClient } = await import('./client.ts');
  const { findAccess } = await import('./client-config.ts');
  let client: ReturnType<typeof createClient> | undefined;
  const session: Session = {
    io,
    output,
    catalogue: CATALOGUE,
    client: () => {
      client ??= createClient(findAccess(flagsOf(parsed.args), io));
      return client;
    },
  };
  return await parsed.command.run(parsed.args, session);
}

async function load(name: string): Promise<CommandModule & { program: string }> {
  const entry = Object.hasOwn(CATALOGUE, name) ? CATALOGUE[name] : undefined;
  if (entry === undefined) throw new BuilderError('usage', `unknown command ${JSON.stringify(name)}`);
  if (entry.load === undefined) throw new BuilderError('usage', `expected ${name} as the first argument: builder ${name} …`);
  return { ...(await entry.load()), program: entry.nested ? `builder ${name}` : 'builder' };
}

/** Where the command's name stands: the first word that is no global option and no value of one. */
function commandIndex(args: string[]): number {
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index] ?? '';
    if (!arg.startsWith('-') || arg === '-') return index;
    const name = arg.replace(/^--?/, '').split('=')[0] ?? '';
    const option = Object.entries(GLOBAL_OPTIONS).find(([known]) => known === name)?.[1];
    if (option === undefined && !isHelp(arg) && arg !== '--version') throw new BuilderError('usage', `unknown argument ${arg}`);
    if (option?.kind === 'text' && !arg.includes('=')) index += 1;
  }
  return args.length;
}

function isHelp(arg: string): boolean {
  return arg === '--help' || arg === '-h';
}

function wantsVersion(args: string[]): boolean {
  return args.includes('--version') && !args.some(isHelp);
}

function flagsOf(values: GlobalValues): { server: string | undefined; token: string | undefined } {
  return { server: values.server, token: values.token };
}
