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
}

export interface Verdict {
  figure: string;
  statistic: string;
  contender: string;
  /** The best of the goal's baselines that was measured; null for none. */
  baseline: string | null;
  wanted: string;
  better: Statistic['better'];
  ratio: Spread | null;
  met: boolean | null;
}

export interface Summary {
  rows: Row[];
  verdicts: Verdict[];
}

export function summarize(figure: Figure, measured: Measured[]): Summary {
  const rows = figure.statistics.flatMap(({ name, unit }) =>
    measured.map(({ contender, rounds, remarks }) => ({
      figure: figure.name,
      statistic: name,
      unit,
      contender: contender.name,
      kind: contender.kind,
      setting: contender.setting,
      value: spreadOf(rounds.map((values) => values[name]).filter((value) => value !== undefined)),
      remarks,
    })),
  );
  return { rows, verdicts: figure.goals.map((goal) => verdictOf(figure, goal, measured)) };
}

/** A round's ratio is of values measured one after the other; the machine's mood falls out of it. */
function verdictOf(figure: Figure, goal: Goal, measured: Measured[]): Verdict {
  const { statistic, contender, ratio, allowance = 0 } = goal;
  const better = figure.statistics.find(({ name }) => name === statistic)?.better ?? 'more';
  const ours = valuesOf(measured, contender, statistic);
  const candidates = goal.against.map((name) => ({ name, values: valuesOf(measured, name, statistic) }));
  const best = candidates
    .filter(({ values }) => values.length > 0)
    .toSorted((a, b) => (better === 'more' ? median(b.values) - median(a.values) : median(a.values) - median(b.values)))[0];
  const wanted = `${better === 'more' ? '≥' : '≤'} ${ratio} ×${allowance > 0 ? ` + ${allowance}` : ''}`;
  const verdict = { figure: figure.name, statistic, contender, wanted, better, baseline: best?.name ?? null };
  if (best === undefined || ours.length === 0) return { ...verdict, ratio: null, met: null };
  const pairs = Math.min(ours.length, best.values.length);
  const ratios = Array.from({ length: pairs }, (_, round) => ((ours[round] ?? 0) - allowance) / (best.values[round] ?? Number.NaN));
  const spread = spreadOf(ratios);
  if (spread === null) return { ...verdict, ratio: null, met: null };
  return { ...verdict, ratio: spread, met: better === 'more' ? spread.median >= ratio : spread.median <= ratio };
}

function valuesOf(measured: Measured[], name: string, statistic: string): number[] {
  const rounds = measured.find(({ contender }) => contender.name === name)?.rounds ?? [];
  return rounds.map((values) => values[statistic]).filter((value) => value !== undefined);
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
