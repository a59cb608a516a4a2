/** The producer's command line in this process, on streams and an environment of the test's own. */
import { Readable, Writable } from 'node:stream';
import { runCommandLine } from '../../src/cli/dispatch.ts';
import type { Io, OutStream } from '../../src/cli/io.ts';
import { readClientEnvironment, wantsColour } from '../../src/service/config.ts';

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  cwd: string;
  env?: Record<string, string>;
  stdin?: string;
  terminal?: boolean;
}

export interface CommandIo extends Seen {
  io: Io;
}

export interface StartedCommand extends Seen {
  done: Promise<Ran>;
}

interface Seen {
  stdout(): string;
  stderr(): string;
  /** As Ctrl-C does; answers whether the command listened. */
  interrupt(): boolean;
}

export function commandIo({ cwd, env = {}, stdin = '', terminal = false }: CommandOptions): CommandIo {
  const stdout = collector(terminal);
  const stderr = collector(terminal);
  const listeners = new Set<() => void>();
  const whole = { HOME: cwd, XDG_CONFIG_HOME: `${cwd}/no-config`, ...env };
  return {
    io: {
      stdin: Readable.from(stdin === '' ? [] : [Buffer.from(stdin)]),
      stdout: stdout.stream,
      stderr: stderr.stream,
      cwd,
      environment: () => readClientEnvironment(whole),
      colour: (stream) => wantsColour(stream, whole),
      onInterrupt: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    stdout: stdout.text,
    stderr: stderr.text,
    interrupt: () => {
      for (const listener of listeners) listener();
      return listeners.size > 0;
    },
  };
}

export function startCommand(args: string[], options: CommandOptions): StartedCommand {
  const { io, ...seen } = commandIo(options);
  const code = runCommandLine(args, io);
  return { ...seen, done: code.then((one) => ({ code: one, stdout: seen.stdout(), stderr: seen.stderr() })) };
}

export function runCommand(args: string[], options: CommandOptions): Promise<Ran> {
  return startCommand(args, options).done;
}

function collector(terminal: boolean): { stream: OutStream; text: () => string } {
  const chunks: Buffer[] = [];
  const stream: OutStream = new Writable({
    write: (chunk, _, done) => {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
  stream.isTTY = terminal;
  return { stream, text: () => Buffer.concat(chunks).toString() };
}
