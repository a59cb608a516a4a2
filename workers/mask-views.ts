/** The ways to read output in search of secrets: as it is, as base64, and as what URL- or JSON-escaped text means. */
import type { Escapes } from './mask-escapes.ts';
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
  /** Bytes of the window that may begin an escape, in order: the plain view marks them for those that come after it. */
  marks: Mark[];
}

interface Mark {
  /** In the window. */
  at: number;
  byte: number;
  /** How many bytes before it may be the beginning of a secret. */
  depth: number;
}

export interface View {
  /** How far it has read; what lies behind must be in the next window again. */
  readonly readTo: number;
  /** Reads on to the window's end, and tells the offset from which on a secret may have begun. */
  read(window: Buffer, reading: Reading): number;
  reset(): void;
}

/** Marks the bytes that begin an escape. */
export function plainView(automaton: Automaton, leads: readonly number[]): View {
  const { begins, depth, ending, shallow, table, width: wide, kinds } = automaton;
  const marked = new Uint8Array(256);
  for (const lead of leads) marked[lead] = 1;
  const idle = begins.map((begin, byte) => (begin === 0 && marked[byte] === 0 ? 1 : 0));
  let state = 0;
  let readTo = 0;
  return {
    get readTo() {
      return readTo;
    },
    read: (window, { from, found, marks }) => {
      const end = window.length;
      for (let at = readTo - from; at < end; at += 1) {
        const byte = window[at] as number;
        if (state === 0 && idle[byte] === 1) continue;
        if (marked[byte] === 1) marks.push({ at, byte, depth: depth[state] as number });
        state = state < shallow ? (table[state * wide + (kinds[byte] as number)] as number) : automaton.next(state, byte);
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

/** Room for where in the stream each of the last bytes that an automaton was given began; its size is a power of two. */
function roomForOrigins(lengthMax: number): Float64Array {
  let size = 1;
  while (size < lengthMax) size *= 2;
  return new Float64Array(size);
}

/** Programs that break base64 into lines make them at least so long. */
const WRAP_COLUMNS_MIN = 60;
/** CR and LF. */
const BREAK_BYTES_MAX = 2;
const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** The URL alphabet is read as the standard one. A line's end is passed over where base64 is broken into lines. */
export function base64View(automaton: Automaton): View {
  const { begins, depth, ending, shallow, table, width: wide, kinds } = automaton;
  const origins = roomForOrigins(automaton.lengthMax);
  const slots = origins.length - 1;
  let slot = 0;
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
      const end = window.length;
      for (let at = readTo - from; at < end; at += 1) {
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
        state = state < shallow ? (table[state * wide + (kinds[character] as number)] as number) : automaton.next(state, character);
        origins[slot] = from + at;
        slot = (slot + 1) & slots;
        const length = ending[state] as number;
        if (length > 0) found.push({ from: origins[(slot - length) & slots] as number, to: from + at + 1 });
      }
      readTo = from + end;
      return state === 0 ? readTo : (origins[(slot - (depth[state] as number)) & slots] as number);
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

/**
 * Only what has an escape in it is read here: a plain view beside this one, of the same automaton, finds the rest and holds it
 * back. So most output costs no more than the search for a byte.
 */
export function escapedView(automaton: Automaton, escapes: Escapes): View {
  const { depth, ending, lengthMax } = automaton;
  const leads = new Set(escapes.leads);
  const origins = roomForOrigins(lengthMax);
  const slots = origins.length - 1;
  let slot = 0;
  let state = 0;
  let readTo = 0;
  /** The last escape that may lie in what is being read; null: none does. Then what comes before `restFrom` is of no use any more. */
  let escapeAt: number | null = null;
  let restFrom = 0;
  const origin = (bytes: number): number => origins[(slot - bytes) & slots] as number;
  const take = (byte: number, span: Range, found: Range[]): void => {
    state = automaton.next(state, byte);
    origins[slot] = span.from;
    slot = (slot + 1) & slots;
    const length = ending[state] as number;
    if (length > 0) found.push({ from: origin(length), to: span.to });
  };
  /** From an offset of the window until no escape lies in what may be a secret; answers how far it came. */
  const readClosely = (window: Buffer, start: number, { from, last, found }: Reading): number => {
    const meaning: number[] = [];
    for (let at = start; at < window.length; ) {
      const byte = window[at] as number;
      let width = 1;
      if (leads.has(byte)) {
        width = escapes.read(window, at, meaning);
        if (width === 0 && !last) return at;
        width ||= 1;
        escapeAt = from + at;
      }
      const span = { from: from + at, to: from + at + width };
      if (meaning.length === 0) take(byte, span, found);
      else for (const one of meaning.splice(0)) take(one, span, found);
      at += width;
      const begun = state === 0 ? from + at : origin(depth[state] as number);
      if (begun <= (escapeAt ?? 0)) continue;
      escapeAt = null;
      restFrom = begun;
      return at;
    }
    return window.length;
  };
  return {
    get readTo() {
      return readTo;
    },
    read: (window, reading) => {
      const { from } = reading;
      let at = readTo - from;
      let mark = 0;
      while (at < window.length && (escapeAt !== null || mark < reading.marks.length)) {
        if (escapeAt === null) {
          const next = reading.marks[mark] as Mark;
          mark += 1;
          if (next.at < at || !leads.has(next.byte)) continue;
          escapeAt = from + next.at;
          state = 0;
          at = Math.max(restFrom - from, next.at - next.depth);
        }
        at = readClosely(window, at, reading);
        if (escapeAt !== null) break;
      }
      if (escapeAt === null) at = window.length;
      readTo = from + at;
      return escapeAt === null || state === 0 ? readTo : Math.min(readTo, origin(depth[state] as number));
    },
    reset: () => {
      state = 0;
      escapeAt = null;
      restFrom = readTo;
    },
  };
}
