/** Sizes as people write them: `512M`, `2G`, `1.5GiB`; the units are those of 1024. */
import { InvalidValue } from './invalid-value.ts';

const UNITS = ['', 'K', 'M', 'G', 'T'];

/** Bytes of a size such as `512M`, `2G` or `4096`; throws InvalidValue for anything else. */
export function parseSize(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(?:([KMGT])(?:iB)?|B)?$/.exec(text) ?? [];
  const bytes = Math.round(Number(count) * 1024 ** UNITS.indexOf(unit ?? ''));
  if (!Number.isSafeInteger(bytes)) throw new InvalidValue(`expected a size such as 512M, 2G or 4096, got ${JSON.stringify(text)}`);
  return bytes;
}

/** A short text that parseSize reads back, exact where it divides and rounded to two digits behind the point where not: `1.5G`. */
export function formatSize(bytes: number): string {
  let rest = bytes;
  let unit = 0;
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${Math.round(rest * 100) / 100}${UNITS[unit]}`;
}
