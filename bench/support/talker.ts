/** Scripts that only write: a great many lines at once, or some in time, each with the moment at which it was written. */
import { createHash } from 'node:crypto';
import type { Command } from './spawning.ts';

/** Lines of 100 bytes, each different. */
const FLOOD =
  '$| = 0; $rest = join("", map { chr(33 + $_ % 90) } 1 .. 89); $rest =~ tr/\'"\\\\/___/; printf("%09d %s\\n", $_, $rest) for 1 .. $ARGV[0]';

export function flood(lines: number): Command {
  return ['perl', '-e', FLOOD, String(lines)];
}

/** The digest of what it writes. */
export function floodDigest(lines: number): string {
  const rest = Array.from({ length: 89 }, (_, index) => String.fromCharCode(33 + ((index + 1) % 90))).join('');
  const shown = rest.replaceAll(/['"\\]/g, '_');
  const hash = createHash('sha256');
  for (let line = 1; line <= lines; line += 1) hash.update(`${String(line).padStart(9, '0')} ${shown}\n`);
  return hash.digest('hex');
}

export interface Pace {
  lines: number;
  perSecond: number;
  /** Before the first line: the observer is there by then. */
  delayMs: number;
}

/** A line is the moment of its writing in microseconds, by the clock of performance.now() and process.hrtime(). */
const PACED =
  'use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep); $| = 1; ($lines, $rate, $delay) = @ARGV; sleep($delay); ' +
  '$begun = clock_gettime(CLOCK_MONOTONIC); ' +
  'for ($n = 0; $n < $lines;) { $now = clock_gettime(CLOCK_MONOTONIC); $due = int(($now - $begun) * $rate) + 1; ' +
  'for (; $n < $due && $n < $lines; $n++) { printf("%.6f %s\\n", clock_gettime(CLOCK_MONOTONIC), "x" x 80) } ' +
  'sleep($rate > 100 ? 0.001 : 1 / $rate) if $n < $lines }';

export function paced({ lines, perSecond, delayMs }: Pace): Command {
  return ['perl', '-e', PACED, String(lines), String(perSecond), String(delayMs / 1000)];
}

/** As a script of a run. */
export function scriptOf(command: Command): string {
  return `exec ${command.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')}`;
}
