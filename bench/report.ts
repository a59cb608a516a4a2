/** The one table that a person reads. */
import type { Machine } from './machine.ts';
import type { Row, Spread, Summary, Verdict } from './summary.ts';

export function tableOf(machine: Machine, { rows, verdicts }: Summary): string {
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version.replace(/^v/, '')}`);
  const head = [
    `${machine.cores} cores, ${machine.cpu}, ${machine.memoryGib} GiB, Linux ${machine.kernel}, ${machine.fileSystem}; ${versions.join(', ')}`,
    'Redis with AOF, synced every second, in every row. A value is the median of the rounds, with the lowest and the highest.',
  ];
  const measured = [['figure', '', 'of', 'value', 'low … high', 'setting'], ...rows.map(rowCells)];
  const judged = [['figure', '', 'builder beside', 'ratio', 'low … high', 'wanted', ''], ...verdicts.map(verdictCells)];
  const remarks = [...new Set(rows.flatMap((row) => row.remarks.map((remark) => `${row.figure}: ${row.contender}: ${remark}`)))];
  return [...head, '', ...aligned(measured), '', ...aligned(judged), ...(remarks.length > 0 ? ['', ...remarks] : [])].join('\n');
}

function rowCells(row: Row): string[] {
  const value = row.value === null ? ['–', ''] : [`${figureOf(row.value.median)} ${row.unit}`, spreadText(row.value)];
  return [row.figure, row.statistic, row.contender, ...value, row.setting];
}

function verdictCells(one: Verdict): string[] {
  const ratio = one.ratio === null ? ['–', ''] : [figureOf(one.ratio.median), spreadText(one.ratio)];
  const met = one.met === null ? 'not measured' : one.met ? 'met' : 'NOT MET';
  return [one.figure, one.statistic, `${one.contender} : ${one.baseline ?? '–'}`, ...ratio, one.wanted, met];
}

function spreadText({ low, high }: Spread): string {
  return `${figureOf(low)} … ${figureOf(high)}`;
}

/** Three digits that count. */
export function figureOf(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const digits = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  return digits >= 2 ? String(Math.round(value)) : value.toFixed(Math.min(4, 2 - digits));
}

function aligned(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
