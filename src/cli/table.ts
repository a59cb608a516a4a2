/** Text for people: aligned tables, moments and short ids. */
import { formatDuration } from '../job/duration.ts';
import { limits } from '../job/limits.ts';
import { visible } from './output.ts';

export interface Column {
  title: string;
  /** Numbers stand to the right. */
  right?: boolean;
}

const GAP = '  ';

/** Columns as wide as their widest cell; ends with a newline. No rows: the empty text. */
export function table(columns: Column[], rows: (string | number | null)[][]): string {
  if (rows.length === 0) return '';
  const cells = [columns.map((column) => column.title), ...rows.map((row) => row.map((cell) => visible(String(cell ?? '-'))))];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => width(row[index] ?? ''))));
  const line = (row: string[]): string =>
    columns
      .map((column, index) => {
        const cell = row[index] ?? '';
        const padding = ' '.repeat((widths[index] ?? 0) - width(cell));
        return column.right ? padding + cell : cell + padding;
      })
      .join(GAP)
      .trimEnd();
  return cells.map((row) => `${line(row)}\n`).join('');
}

/** `name: value` lines, the values in one column; nulls are left out. */
export function fields(pairs: [string, string | number | null][]): string {
  const shown = pairs.filter(([, value]) => value !== null);
  const widest = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${`${name}:`.padEnd(widest + 1)} ${visible(String(value))}\n`).join('');
}

/** Seconds are enough for people: `2026-11-24T06:00:00Z`. */
export function shortMoment(moment: string | null): string {
  return moment === null ? '-' : moment.replace(/\.\d+Z$/, 'Z');
}

/** Whole seconds between two moments, or `-` where one is missing. */
export function duration(from: string | null, to: string | null): string {
  if (from === null || to === null) return '-';
  const ms = Math.max(0, Date.parse(to) - Date.parse(from));
  return formatDuration(ms < 1000 ? ms : Math.round(ms / 1000) * 1000);
}

/** Prefixes that tell these ids apart, none shorter than the server accepts. */
export function shortIds(ids: string[]): Map<string, string> {
  const distinct = [...new Set(ids)].sort();
  return new Map(
    distinct.map((id, index) => {
      const neighbours = [distinct[index - 1] ?? '', distinct[index + 1] ?? ''];
      return [id, id.slice(0, Math.max(limits.prefixCharsMin, ...neighbours.map((other) => commonPrefix(id, other) + 1)))];
    }),
  );
}

function commonPrefix(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}

function width(text: string): number {
  return [...text].length;
}
