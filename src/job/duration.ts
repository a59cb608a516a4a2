/** Durations as people write them: `90s`, `1h30m`, `250ms`. */
import { InvalidValue } from './invalid-value.ts';

const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** Milliseconds of a duration such as `1h30m`, `10s` or `250ms`; throws InvalidValue for anything else. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/gy)];
  const matched = parts.map((part) => part[0]).join('');
  if (text === '' || matched !== text) {
    throw new InvalidValue(`expected a duration such as 90s, 10m or 1h30m, got ${JSON.stringify(text)}`);
  }
  return Math.round(parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNIT_MS[unit ?? ''] ?? 0), 0));
}

/** The shortest text that parseDuration reads back: 5400000 is `1h30m`. */
export function formatDuration(durationMs: number): string {
  let rest = Math.round(durationMs);
  let text = '';
  for (const unit of ['d', 'h', 'm', 's', 'ms']) {
    const size = UNIT_MS[unit] ?? 1;
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text === '' ? '0s' : text;
}
