/** The gate: ratios beside those that were kept when somebody last looked at them. */
import type { Spread, Summary, Verdict } from './summary.ts';

/** By figure, statistic and contenders. */
export type Kept = Record<string, Spread>;

export function keptOf({ verdicts }: Summary): Kept {
  return Object.fromEntries(verdicts.flatMap((one) => (one.ratio === null ? [] : [[nameOf(one), one.ratio]])));
}

/** What got worse than the worst round that was kept, and was no accident of one round now. What was not measured is not judged. */
export function drops(kept: Kept, { verdicts }: Summary): string[] {
  return verdicts.flatMap((one) => {
    const before = kept[nameOf(one)];
    if (before === undefined || one.ratio === null) return [];
    const worse = one.better === 'more' ? one.ratio.median < before.low : one.ratio.median > before.high;
    if (!worse) return [];
    const was = `${before.median.toFixed(3)} (${before.low.toFixed(3)} … ${before.high.toFixed(3)})`;
    return [`worse: ${nameOf(one)}: expected a ratio of ${was}, got ${one.ratio.median.toFixed(3)}`];
  });
}

function nameOf({ figure, statistic, contender, baseline }: Verdict): string {
  return `${figure} ${statistic}: ${contender} : ${baseline}`;
}
