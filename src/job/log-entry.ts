/**
 * The one form of a log line, from the worker's spool to Redis, the archive and an observer's screen: a JSON object on a
 * line of its own (NDJSON). Nothing on the way parses and prints it again unless text is asked for.
 */
import { z } from 'zod';
import { OUTCOMES } from './outcome.ts';

export const SOURCES = ['stdout', 'stderr', 'builder'] as const;
export type Source = (typeof SOURCES)[number];

/** `continued`: the line was longer than limits.logLineBytesMax; the next object of this source goes on with it. */
export const LogLine = z.object({
  line: z.int().min(1),
  atMs: z.int().min(0),
  source: z.enum(SOURCES),
  text: z.string(),
  continued: z.literal(true).optional(),
});
export type LogLine = z.infer<typeof LogLine>;

const Cut = z.object({ cut: z.object({ from: z.int(), to: z.int() }) });
const Gap = z.object({ gap: z.object({ from: z.int(), to: z.int(), reason: z.string() }) });

/** `sha256` and `bytes` are of the log's text: every line's text, each ended by a newline unless continued. */
export const LogEnd = z.object({
  end: z.object({ lines: z.int(), bytes: z.int(), sha256: z.string(), outcome: z.enum(OUTCOMES) }),
});
export type LogEnd = z.infer<typeof LogEnd>;

export const LogEntry = z.union([LogLine, Cut, Gap, LogEnd]);
export type LogEntry = z.infer<typeof LogEntry>;

export function parseLogEntry(json: string): LogEntry {
  return LogEntry.parse(JSON.parse(json));
}

/** The text of a line as it counts for the log's digest and as `Accept: text/plain` gives it. */
export function textOf(line: LogLine): string {
  return line.continued ? line.text : `${line.text}\n`;
}
