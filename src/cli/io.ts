/** What a command touches of the process it runs in, so that tests can run commands on streams of their own. */
import type { Readable, Writable } from 'node:stream';
import { type ClientEnvironment, readClientEnvironment, wantsColour } from '../service/config.ts';

export type OutStream = Writable & { isTTY?: boolean; columns?: number };

export interface Io {
  stdin: Readable;
  stdout: OutStream;
  stderr: OutStream;
  cwd: string;
  /** Throws `bad-config`. */
  environment(): ClientEnvironment;
  colour(stream: OutStream): boolean;
  /** Calls the listener at Ctrl-C instead of ending the process; the answer takes it back. */
  onInterrupt(listener: () => void): () => void;
}

export function processIo(): Io {
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    cwd: process.cwd(),
    environment: () => readClientEnvironment(),
    colour: (stream) => wantsColour(stream),
    onInterrupt: (listener) => {
      process.once('SIGINT', listener);
      return () => process.removeListener('SIGINT', listener);
    },
  };
}

/** A signal that Ctrl-C aborts, until `dispose`. */
export function interruptSignal(io: Io): { signal: AbortSignal; dispose: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, dispose: io.onInterrupt(() => controller.abort()) };
}
