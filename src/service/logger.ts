/** The programs' own log: JSON lines on stderr, for operators and their tools. */
import { destination, type Logger as PinoLogger, pino } from 'pino';

export type Logger = PinoLogger;

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
  return pino({ level, base: { program }, redact: REDACTED, timestamp: pino.stdTimeFunctions.isoTime }, destination({ fd: 2, sync: true }));
}
