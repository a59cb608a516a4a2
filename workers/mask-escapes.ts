/** How output that was escaped for a URL, a form or JSON is read: any character may be escaped, none has to be. */

/** One kind of escapes. */
export interface Escapes {
  /** The bytes that begin one. */
  leads: readonly number[];
  /**
   * The escape at a place of the window: its width, its meaning in `meaning`. Width 1 and no meaning: it is none, and the byte
   * stands for itself. Width 0: more must come to tell.
   */
  read(window: Buffer, at: number, meaning: number[]): number;
}

const PERCENT = 0x25;

/** `%41`, with any byte escaped or not. */
export const urlEscapes: Escapes = { leads: [PERCENT], read: readPercent };

/** The same as forms are sent: `+` is a blank. */
export const formEscapes: Escapes = {
  leads: [PERCENT, 0x2b],
  read: (window, at, meaning) => {
    if (window[at] === PERCENT) return readPercent(window, at, meaning);
    meaning.push(0x20);
    return 1;
  },
};

function readPercent(window: Buffer, at: number, meaning: number[]): number {
  const value = hexAt(window, at + 1, 2);
  if (value < 0) return value === MORE ? 0 : 1;
  meaning.push(value);
  return 3;
}

/** What stands behind the backslash, and what it means. */
const JSON_SHORT = new Map(['""', '\\\\', '//', 'b\b', 'f\f', 'n\n', 'r\r', 't\t'].map((pair) => [pair.charCodeAt(0), pair.charCodeAt(1)]));
const SMALL_U = 0x75;
const BACKSLASH = 0x5c;

/** `\n`, `\"`, `\u0041`, with any character escaped or not; what lies outside of the basic plane takes two of the last kind. */
export const jsonEscapes: Escapes = {
  leads: [BACKSLASH],
  read: (window, at, meaning) => {
    const kind = window[at + 1];
    if (kind === undefined) return 0;
    if (kind !== SMALL_U) {
      const short = JSON_SHORT.get(kind);
      if (short === undefined) return 1;
      meaning.push(short);
      return 2;
    }
    const unit = hexAt(window, at + 2, 4);
    if (unit < 0) return unit === MORE ? 0 : 1;
    if ((unit & 0xfc00) !== 0xd800) return push(meaning, unit, 6);
    const low = lowSurrogateAt(window, at + 6);
    if (low === MORE) return 0;
    return low < 0 ? push(meaning, unit, 6) : push(meaning, 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff), 12);
  },
};

function lowSurrogateAt(window: Buffer, at: number): number {
  if (at >= window.length) return MORE;
  if (window[at] !== BACKSLASH) return NONE;
  if (at + 1 >= window.length) return MORE;
  if (window[at + 1] !== SMALL_U) return NONE;
  const low = hexAt(window, at + 2, 4);
  return low >= 0 && (low & 0xfc00) !== 0xdc00 ? NONE : low;
}

function push(meaning: number[], codePoint: number, width: number): number {
  for (const byte of Buffer.from(String.fromCodePoint(codePoint))) meaning.push(byte);
  return width;
}

const NONE = -1;
const MORE = -2;

/** A number of hexadecimal digits; NONE, or MORE where the window ends too early to tell. */
function hexAt(window: Buffer, at: number, digits: number): number {
  let value = 0;
  for (let n = 0; n < digits; n += 1) {
    const byte = window[at + n];
    if (byte === undefined) return MORE;
    const digit = byte >= 0x30 && byte <= 0x39 ? byte - 0x30 : (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66 ? (byte | 0x20) - 0x57 : -1;
    if (digit < 0) return NONE;
    value = value * 16 + digit;
  }
  return value;
}
