/** A log as it comes over the wire: batches of NDJSON lines, each with what it says. */
import { limits } from '../job/limits.ts';
import { type LogEntry, parseLogEntry } from '../job/log-entry.ts';

export interface LogRecord {
  /** The object as it came, without its newline. */
  json: string;
  entry: LogEntry;
}

/** A line of log with every byte escaped, and the object around it. */
const RECORD_CHARS_MAX = 8 * limits.logLineBytesMax;

/** As many records as a chunk of the body completes, so that no more than a chunk and one line are in memory. */
export async function* readRecords(body: AsyncIterable<Uint8Array>): AsyncGenerator<LogRecord[]> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > RECORD_CHARS_MAX) throw new Error(`a line of log longer than ${RECORD_CHARS_MAX} characters`);
    // An empty line only says that the log is quiet: then there may be a batch of none.
    const records = lines.filter((line) => line !== '').map((json) => ({ json, entry: parseLogEntry(json) }));
    if (lines.length > 0) yield records;
  }
  if (rest !== '') throw new Error('the log broke off in the middle of a line');
}
