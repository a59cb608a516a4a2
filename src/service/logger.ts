/** The programs' own log: JSON lines on stderr, for operators and their tools. */
import { writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Logger as PinoLogger } from 'pino';

export type Logger = PinoLogger;

/** As the CommonJS package that it is: `import` would have Node parse its files twice. */
const { pino }: typeof import('pino') = createRequire(import.meta.url)('pino');

/** Secrets never reach a log: what may hold one is redacted by name, wherever it stands. */
const REDACTED = [
  'token',
  '*.token',
  'authorization',
  '*.authorization',
  'cookie',
  '*.cookie',
  'secretKey',
  '*.secretKey',
  'password',
  '*.password',
  'env',
  '*.env',
];

export function createLogger(program: string, level: string): Logger {
  return pino({ level, base: { program }, redact: REDACTED, timestamp: pino.stdTimeFunctions.isoTime }, { write: writeToStderr });
}

/** A log that finds no room is lost; what it tells of must go on. */
function writeToStderr(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // A full disk, a closed pipe: there is nobody to tell.
  }
}
