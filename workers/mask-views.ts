/** The ways to read output in search of secrets: as it is, as base64, and as what URL- or JSON-escaped text means. */
import type { Automaton } from './pattern-automaton.ts';

/** Offsets in the stream: the first byte, and the first behind it. */
export interface Range {
  from: number;
  to: number;
}

export interface Reading {
  /** The offset of the window's first byte. */
  from: number;
  /** No more comes: what is half an escape is read as it stands. */
  last: boolean;
  /** Takes what is found. */
  found: Range[];
}

export interface View {
  /** How far it has read; what lies behind must be in the next window again. */
  readonly readTo: number;
  /** Reads on to the window's end, and tells the offset from which on a secret may have begun. */
  read(window: Buffer, reading: Reading): number;
  reset(): void;
}

export function plainView(automaton: Automaton): View {
  const { begins, depth, ending } = automaton;
  let state = 0;
  let readTo = 0;
  return {
    get readTo() {
      return readTo;
    },
    read: (window, { from, found }) => {
      const end = window.length;
      for (let at = readTo - from; at < end; at += 1) {
        const byte = window[at] as number;
        if (state === 0 && begins[byte] === 0) continue;
        state = automaton.next(state, byte);
        const length = ending[state] as number;
        if (length > 0) found.push({ from: from + at + 1 - length, to: from + at + 1 });
      }
      readTo = from + end;
      return readTo - (depth[state] as number);
    },
    reset: () => {
      state = 0;
    },
  };
}

/** Where in the stream each of the last bytes that an automaton was given began. */
function createOrigins(lengthMax: number): { add(from: number): void; back(bytes: number): number } {
  let size = 1;
  while (size < lengthMax) size *= 2;
  const origins = new Float64Array(size);
  let count = 0;
  return {
    add: (from) => {
      origins[count % size] = from;
      count += 1;
    },
    back: (bytes) => origins[(count - bytes) % size] as number,
  };
}

/** Programs that break base64 into lines make them at least so long. */
const WRAP_COLUMNS_MIN = 60;
/** CR and LF. */
const BREAK_BYTES_MAX = 2;
const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** The URL alphabet is read as the standard one. A line's end is passed over where base64 is broken into lines. */
export function base64View(automaton: Automaton): View {
  const { begins, depth, ending } = automaton;
  const origins = createOrigins(automaton.lengthMax);
  let state = 0;
  let readTo = 0;
  /** Characters of base64 in a row up to here, and bytes of a line's end since. */
  let columns = 0;
  let breaks = 0;
  return {
    get readTo() {
      return readTo;
    },
    read: (window, { from, found }) => {
      for (let at = readTo - from; at < window.length; at += 1) {
        const byte = window[at] as number;
        const character = STANDARD[byte] as number;
        if (character === 0) {
          const broken = columns >= WRAP_COLUMNS_MIN && breaks < BREAK_BYTES_MAX && (byte === NEWLINE || byte === RETURN);
          breaks = broken ? breaks + 1 : 0;
          if (broken) continue;
          state = 0;
          columns = 0;
          continue;
        }
        columns = breaks > 0 ? 1 : columns + 1;
        breaks = 0;
        if (state === 0 && begins[character] === 0) continue;
        state = automaton.next(state, character);
        origins.add(from + at);
        const length = ending[state] as number;
        if (length > 0) found.push({ from: origins.back(length), to: from + at + 1 });
      }
      readTo = from + window.length;
      return state === 0 ? readTo : origins.back(depth[state] as number);
    },
    reset: () => {
      state = 0;
      columns = 0;
      breaks = 0;
    },
  };
}

/** Each byte as the character of the standard alphabet that it stands for; 0 for others. */
const STANDARD: Uint8Array = (() => {
  const table = new Uint8Array(256);
  for (const byte of Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=')) table[byte] = byte;
  table[0x2d] = 0x2b;
  table[0x5f] = 0x2f;
  return table;
})();

/** One kind of escapes. */
export interface Escapes {
  /** Whether a byte begins an escape. */
  leads(byte: number): boolean;
  /**
   * The escape at a place of the window: its width, its meaning in `meaning`. Width 1 and no meaning: it is none, and the byte
   * stands for itself. Width 0: more must come to tell.
   */
  read(window: Buffer, at: number, meaning: number[]): number;
}

export function escapedView(automaton: Automaton, escapes: Escapes): View {
  const { begins, depth, ending } = automaton;
  const origins = createOrigins(automaton.lengthMax);
  const leads = Uint8Array.from({ length: 256 }, (_, byte) => (escapes.leads(byte) ? 1 : 0));
  const idle = Uint8Array.from(leads, (lead, byte) => (lead === 0 && begins[byte] === 0 ? 1 : 0));
  const meaning: number[] = [];
  let state = 0;
  let readTo = 0;
  const step = (byte: number, origin: number): number => {
    state = automaton.next(state, byte);
    if (state !== 0) origins.add(origin);
    return ending[state] as number;
  };
  return {
    get readTo() {
      return readTo;
    },
    read: (window, { from, last, found }) => {
      let at = readTo - from;
      while (at < window.length) {
        const byte = window[at] as number;
        if (state === 0 && idle[byte] === 1) {
          at += 1;
          continue;
        }
        let width = 1;
        meaning.length = 0;
        if (leads[byte] === 1) width = escapes.read(window, at, meaning);
        if (width === 0 && !last) break;
        width ||= 1;
        if (meaning.length === 0) meaning.push(byte);
        for (const one of meaning) {
          const length = step(one, from + at);
          if (length > 0) found.push({ from: origins.back(length), to: from + at + width });
        }
        at += width;
      }
      readTo = from + at;
      return state === 0 ? readTo : origins.back(depth[state] as number);
    },
    reset: () => {
      state = 0;
    },
  };
}

/** `%41`, with any byte escaped or not. */
export const urlEscapes: Escapes = { leads: (byte) => byte === 0x25, read: readPercent };

/** The same as forms are sent: `+` is a blank. */
export const formEscapes: Escapes = {
  leads: (byte) => byte === 0x25 || byte === 0x2b,
  read: (window, at, meaning) => {
    if (window[at] === 0x25) return readPercent(window, at, meaning);
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
  leads: (byte) => byte === BACKSLASH,
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
