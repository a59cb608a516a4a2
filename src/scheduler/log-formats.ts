/** The forms in which a log is sent: as it is (JSON lines), as text, as an event stream. */
import { parseLogEntry, textOf } from '../job/log-entry.ts';

export interface LogFormat {
  contentType: string;
  /** Says between whole lines that the connection stands; what a reader passes over. Text has nothing of the kind. */
  ping: string;
  /** From whole NDJSON lines, each ended by a newline. */
  render(ndjson: Buffer): Buffer | string;
}

const JSON_LINES: LogFormat = { contentType: 'application/x-ndjson; charset=utf-8', ping: '\n', render: (ndjson) => ndjson };

const TEXT: LogFormat = { contentType: 'text/plain; charset=utf-8', ping: '', render: (ndjson) => linesOf(ndjson).map(asText).join('') };

const EVENTS: LogFormat = {
  contentType: 'text/event-stream; charset=utf-8',
  ping: ': waiting\n\n',
  render: (ndjson) => linesOf(ndjson).map(asEvent).join(''),
};

/** What a client asks for by `Accept`; text unless it says otherwise. */
export function formatFor(accept: string | undefined): LogFormat {
  const wanted = (accept ?? '').toLowerCase();
  if (wanted.includes('text/event-stream')) return EVENTS;
  return /application\/(x-)?(nd)?json/.test(wanted) ? JSON_LINES : TEXT;
}

function linesOf(ndjson: Buffer): string[] {
  return ndjson.toString().split('\n').slice(0, -1);
}

function asText(json: string): string {
  const entry = parseLogEntry(json);
  if ('line' in entry) return textOf(entry);
  if ('gap' in entry) return `builder: lines ${entry.gap.from} to ${entry.gap.to} are missing: ${entry.gap.reason}\n`;
  if ('cut' in entry) return `builder: lines ${entry.cut.from} to ${entry.cut.to} were cut\n`;
  return '';
}

/** An event's id is its line's number, so that `Last-Event-ID` says where to go on. */
function asEvent(json: string): string {
  const line = /^\{"line":(\d+),/.exec(json)?.[1];
  if (line !== undefined) return `id: ${line}\ndata: ${json}\n\n`;
  const last = /^\{"(?:gap|cut)":\{"from":\d+,"to":(\d+)/.exec(json)?.[1];
  return last === undefined ? `event: end\ndata: ${json}\n\n` : `id: ${last}\ndata: ${json}\n\n`;
}
