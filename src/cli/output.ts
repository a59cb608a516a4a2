/** Data on stdout, messages on stderr; under `--json` data are JSON and errors too. */
import { once } from 'node:events';
import type { BuilderError } from '../service/errors.ts';
import type { Io } from './io.ts';

export interface Output {
  readonly json: boolean;
  /** Writes data as they are and resolves when the reader keeps up. */
  data(text: string): Promise<void>;
  /** Under `--json` the value as one document, else the text, which may be empty. */
  show(value: unknown, text: string): Promise<void>;
  /** A message, on a line of its own. */
  say(message: string): void;
  fail(error: BuilderError, hint?: string): void;
}

export function createOutput(io: Io, json: boolean): Output {
  const data = async (text: string): Promise<void> => {
    if (text !== '' && !io.stdout.write(text)) await once(io.stdout, 'drain');
  };
  return {
    json,
    data,
    show: (value, text) => data(json ? `${JSON.stringify(value)}\n` : text),
    say: (message) => void io.stderr.write(`${message}\n`),
    fail: (error, hint = '') => {
      const message = `${error.message}${hint}`;
      const text = json ? JSON.stringify({ error: { code: error.code, message } }) : `builder: ${visible(message)}`;
      io.stderr.write(`${text}\n`);
    },
  };
}

/** Control characters shown as escapes, so that a name or a reason cannot rewrite the terminal. */
export function visible(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) => {
    if (char === '\n') return '\\n';
    if (char === '\t') return '\\t';
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}
