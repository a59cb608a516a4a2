/** What the rounds of a figure say: medians, spreads, and each goal's ratio against the best of its baselines. */
import type { Figure, Goal, Kind, Statistic } from './figure.ts';
import type { Measured } from './rounds.ts';

export interface Spread {
  median: number;
  low: number;
  high: number;
}

export interface Row {
  figure: string;
  statistic: string;
  unit: string;
  contender: string;
  kind: Kind;
  setting: string;
  /** Null where it was not measured. */
  value: Spread | null;
  remarks: string[];
  isFaulty: boolean;
}

export interface Verdict {
  figure: string;
  statistic: string;
  contender: string;
  /** All of the goal's baselines. */
  against: string[];
  /** The best of those that were measured; null for none. */
  baseline: string | null;
  wanted: string;
  better: Statistic['better'];
  /** Of builder's whole value, whatever is allowed beside the goal's ratio. */
  ratio: Spread | null;
  met: boolean | null;
}

export interface Summary {
  rows: Row[];
  verdicts: Verdict[];
}

export function summarize(figure: Figure, measured: Measured[]): Summary {
  const rows = figure.statistics.flatMap(({ name, unit }) =>
    measured.map(({ contender, rounds, remarks, isFaulty }) => ({
      figure: figure.name,
      statistic: name,
      unit,
      contender: contender.name,
      kind: contender.kind,
      setting: contender.setting,
      value: spreadOf(rounds.map((values) => values?.[name]).filter((value) => value !== undefined)),
      remarks,
      isFaulty,
    })),
  );
  return { rows, verdicts: figure.goals.map((goal) => verdictOf(figure, goal, measured)) };
}

/** A round's ratio is of values measured one after the other; the machine's mood falls out of it. */
function verdictOf(figure: Figure, goal: Goal, measured: Measured[]): Verdict {
  const { statistic, contender, against, ratio, allowance = 0 } = goal;
  const better = figure.statistics.find(({ name }) => name === statistic)?.better ?? 'more';
  const ours = valuesOf(measured, contender, statistic);
  const best = against
    .map((name) => ({ name, values: valuesOf(measured, name, statistic) }))
    .map((one) => ({ ...one, median: median(one.values.filter((value) => value !== null)) }))
    .filter((one) => !Number.isNaN(one.median))
    .toSorted((a, b) => (better === 'more' ? b.median - a.median : a.median - b.median))[0];
  const wanted = `${better === 'more' ? '≥' : '≤'} ${ratio} ×${allowance > 0 ? ` + ${allowance}` : ''}`;
  const verdict = { figure: figure.name, statistic, contender, against, wanted, better, baseline: best?.name ?? null };
  const ratios = (taken: number): number[] => ratiosOf(ours, best?.values ?? [], taken);
  const counted = median(ratios(allowance));
  if (Number.isNaN(counted)) return { ...verdict, ratio: null, met: null };
  return { ...verdict, ratio: spreadOf(ratios(0)), met: better === 'more' ? counted >= ratio : counted <= ratio };
}

/** By round; null for one that is void. */
function valuesOf(measured: Measured[], name: string, statistic: string): (number | null)[] {
  const rounds = measured.find(({ contender }) => contender.name === name)?.rounds ?? [];
  return rounds.map((values) => values?.[statistic] ?? null);
}

/** Of the rounds that both have. `taken` is taken off ours first. */
function ratiosOf(ours: (number | null)[], theirs: (number | null)[], taken: number): number[] {
  return ours.flatMap((our, round) => {
    const their = theirs[round] ?? null;
    return our === null || their === null ? [] : [(our - taken) / their];
  });
}

export function spreadOf(values: number[]): Spread | null {
  if (values.length === 0) return null;
  return { median: median(values), low: Math.min(...values), high: Math.max(...values) };
}

export function median(values: number[]): number {
  return percentile(values, 0.5);
}

/** The smallest value that at least this part of them does not exceed; the median of an even number is the mean of the two in the middle. */
export function percentile(values: number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = part * sorted.length;
  const upper = sorted[Math.min(sorted.length - 1, Math.ceil(at) - 1)] ?? Number.NaN;
  if (part !== 0.5 || sorted.length % 2 === 1) return upper;
  return (upper + (sorted[sorted.length / 2] ?? upper)) / 2;
}
