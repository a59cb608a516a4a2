/** The gate: ratios beside those that were kept when somebody last looked at them. */
import type { Size } from './figure.ts';
import type { Machine } from './machine.ts';
import type { Row, Spread, Summary, Verdict } from './summary.ts';

/** `median` is of the last measurement that was kept, `low` and `high` of all of them. */
export interface Kept {
  size: Size;
  machine: Machine;
  /** By figure, statistic and contenders. */
  ratios: Record<string, Spread>;
}

/** What two measurements of the same program differ by beyond their rounds, on a machine that others share. */
const SLACK = 0.2;

/** What is kept after another measurement, of all figures or some; of goals whose baselines were not all measured nothing. */
export function keptWith(before: Kept | null, { size, machine, rows, verdicts }: Pick<Kept, 'size' | 'machine'> & Summary): Kept {
  const measured = verdicts.flatMap((one) => {
    if (one.ratio === null || absentOf(one, rows).length > 0) return [];
    const { median, low, high } = one.ratio;
    const known = before?.ratios[nameOf(one)];
    return [[nameOf(one), { median, low: Math.min(low, known?.low ?? low), high: Math.max(high, known?.high ?? high) }]];
  });
  return { size, machine, ratios: { ...before?.ratios, ...Object.fromEntries(measured) } };
}

/** Why the two cannot be compared, if so. */
export function unlike(kept: Kept, { size, machine }: Pick<Kept, 'size' | 'machine'>): string | null {
  const shown = (one: Pick<Kept, 'size' | 'machine'>): string => `the ${one.size} size on ${one.machine.cores} cores, ${one.machine.cpu}`;
  const alike = shown(kept) === shown({ size, machine });
  return alike ? null : `expected ${shown(kept)}, as what is kept, got ${shown({ size, machine })}`;
}

/**
 * What got worse than the worst round that was kept, by more than SLACK, and was no accident of one round now; and what was kept and is not
 * measured now. `isWhole`: all figures were asked for.
 */
export function drops({ ratios }: Kept, { rows, verdicts }: Summary, isWhole: boolean): string[] {
  const figures = new Set(verdicts.map(({ figure }) => figure));
  const named = new Map(verdicts.map((one) => [nameOf(one), one]));
  return Object.entries(ratios)
    .filter(([name]) => isWhole || figures.has(name.slice(0, name.indexOf(' '))))
    .flatMap(([name, before]) => {
      const now = named.get(name);
      if (now === undefined || now.ratio === null) return [`not measured: ${name}`];
      const absent = absentOf(now, rows);
      if (absent.length > 0) return [`not measured: ${name}: without ${absent.join(', ')}`];
      const { median } = now.ratio;
      const isWorse = now.better === 'more' ? median < before.low * (1 - SLACK) : median > before.high * (1 + SLACK);
      const was = `${before.median.toFixed(3)} (${before.low.toFixed(3)} … ${before.high.toFixed(3)})`;
      return isWorse ? [`worse: ${name}: expected a ratio of ${was}, got ${median.toFixed(3)}`] : [];
    });
}

/** Baselines of a goal that have no value. */
function absentOf({ figure, statistic, against }: Verdict, rows: Row[]): string[] {
  const values = new Map(
    rows.filter((row) => row.figure === figure && row.statistic === statistic).map((row) => [row.contender, row.value]),
  );
  return against.filter((name) => (values.get(name) ?? null) === null);
}

/** The baselines that there are, not the one that won: another may win the next time. */
function nameOf({ figure, statistic, contender, against }: Verdict): string {
  return `${figure} ${statistic}: ${contender} : ${against.join(' | ')}`;
}
