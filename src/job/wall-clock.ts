/** Local time of a zone: from a moment to what clocks there show, and back, across daylight saving. */

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const formats = new Map<string, Intl.DateTimeFormat>();

/** What clocks in a zone show at a moment, as the milliseconds that UTC's clocks would have shown so. */
export function wallTimeOf(atMs: number, tz: string): number {
  return atMs + offsetMs(atMs, tz);
}

/**
 * The moment at which clocks in a zone show a local time. One that is shown twice is meant the first time; one that is left out
 * is the first minute after the gap.
 */
export function momentOf(wallMs: number, tz: string): number {
  const before = offsetMs(wallMs - DAY_MS, tz);
  const after = offsetMs(wallMs + DAY_MS, tz);
  const shown = [wallMs - before, wallMs - after].filter((atMs) => wallTimeOf(atMs, tz) === wallMs);
  return shown.length > 0 ? Math.min(...shown) : endOfGap({ fromMs: wallMs - after, toMs: wallMs - before, offset: after, tz });
}

/** The first moment after one and not after another at which clocks in a zone are changed; null when there is none. */
export function clockChange(fromMs: number, toMs: number, tz: string): number | null {
  const offset = offsetMs(fromMs, tz);
  for (let low = fromMs; low < toMs; low += DAY_MS) {
    const high = Math.min(low + DAY_MS, toMs);
    // Clocks are changed on a whole minute, never twice a day.
    if (offsetMs(high, tz) !== offset) return minuteWhere((atMs) => offsetMs(atMs, tz) !== offset, low, high);
  }
  return null;
}

function endOfGap({ fromMs, toMs, offset, tz }: { fromMs: number; toMs: number; offset: number; tz: string }): number {
  return minuteWhere((atMs) => offsetMs(atMs, tz) === offset, fromMs, toMs);
}

/** The first whole minute at which something holds that holds from then on, and at the end. */
function minuteWhere(holds: (atMs: number) => boolean, fromMs: number, toMs: number): number {
  let [low, high] = [Math.floor(fromMs / MINUTE_MS), Math.ceil(toMs / MINUTE_MS)];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle * MINUTE_MS)) high = middle;
    else low = middle + 1;
  }
  return low * MINUTE_MS;
}

/** How far a zone's clocks are ahead of UTC's at a moment. */
function offsetMs(atMs: number, tz: string): number {
  const wholeMs = Math.floor(atMs / 1000) * 1000;
  const part: Record<string, number> = {};
  for (const { type, value } of formatOf(tz).formatToParts(wholeMs)) part[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
  return Date.UTC(year, month - 1, day, hour, minute, second) - wholeMs;
}

function formatOf(tz: string): Intl.DateTimeFormat {
  const known = formats.get(tz);
  if (known !== undefined) return known;
  const numeric = 'numeric';
  const fields = { year: numeric, month: numeric, day: numeric, hour: numeric, minute: numeric, second: numeric } as const;
  const format = new Intl.DateTimeFormat('en', { timeZone: tz, hourCycle: 'h23', calendar: 'gregory', numberingSystem: 'latn', ...fields });
  formats.set(tz, format);
  return format;
}
