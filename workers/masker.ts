/** Secrets become `***` in a stream of bytes, however it is cut into chunks and however they are written: pure. */
import { formEscapes, jsonEscapes, urlEscapes } from './mask-escapes.ts';
import { base64View, escapedView, plainView, type Range, type View } from './mask-views.ts';
import { buildAutomaton } from './pattern-automaton.ts';
import { formsOf } from './secret-forms.ts';

/** One stream; what may be the beginning of a secret is held back until more comes. */
export interface Masker {
  /** What can be told of the output so far; the chunk is not changed, and may be part of the answer. */
  push(chunk: Buffer): Buffer;
  /** The rest: for the moment after which nothing more comes. */
  flush(): Buffer;
}

/** How to mask a set of secrets: made once, used for any number of streams. */
export interface Mask {
  stream(): Masker;
  /** A text of builder's own. `cut`: its end is missing, so that the beginning of a secret at its end is masked too. */
  text(text: string, o?: { cut: boolean }): string;
}

const STARS = Buffer.from('***');
const NOTHING = Buffer.alloc(0);

export function createMask(secrets: readonly string[]): Mask {
  if (secrets.length === 0) return NO_SECRETS;
  const forms = formsOf(secrets);
  const plain = buildAutomaton(forms.plain);
  const base64 = buildAutomaton(forms.base64);
  // A blank is all that the third reads otherwise.
  const escapes = [urlEscapes, jsonEscapes, ...(secrets.some((secret) => secret.includes(' ')) ? [formEscapes] : [])];
  const leads = escapes.flatMap((one) => one.leads);
  const views = (): View[] => [plainView(plain, leads), base64View(base64), ...escapes.map((one) => escapedView(plain, one))];
  return {
    stream: () => createMasker(views()).masker,
    text: (text, o = { cut: false }) => {
      const { masker, end } = createMasker(views());
      return Buffer.concat([masker.push(Buffer.from(text)), end(o.cut)]).toString();
    },
  };
}

const NO_SECRETS: Mask = { stream: () => ({ push: (chunk) => chunk, flush: () => NOTHING }), text: (text) => text };

/** Offsets count from the beginning of the stream. */
interface Stream {
  /** Bytes from `keptFrom` on that are still needed. */
  kept: Buffer;
  keptFrom: number;
  /** Everything before has been given out, or is masked. */
  givenTo: number;
  /** The end of the last masked range. */
  maskedTo: number;
  /** Found, but not yet given out. */
  found: Range[];
}

function createMasker(views: readonly View[]): { masker: Masker; end(cut: boolean): Buffer } {
  const stream: Stream = { kept: NOTHING, keptFrom: 0, givenTo: 0, maskedTo: -1, found: [] };
  const take = (chunk: Buffer, last: boolean): number => {
    stream.kept = stream.kept.length === 0 ? chunk : Buffer.concat([stream.kept, chunk]);
    let safe = stream.keptFrom + stream.kept.length;
    const reading = { from: stream.keptFrom, last, found: stream.found, marks: [] };
    for (const view of views) safe = Math.min(safe, view.read(stream.kept, reading));
    return safe;
  };
  const end = (cut: boolean): Buffer => {
    const safe = take(NOTHING, true);
    const whole = stream.keptFrom + stream.kept.length;
    if (cut && safe < whole) stream.found.push({ from: safe, to: whole });
    const rest = give(stream, whole);
    for (const view of views) view.reset();
    return rest;
  };
  return {
    end,
    masker: {
      push: (chunk) => {
        const safe = take(chunk, false);
        const given = give(stream, safe);
        const needed = views.reduce((least, view) => Math.min(least, view.readTo), Math.min(safe, stream.givenTo));
        // A copy: the chunk is the caller's, and large for what little is held back.
        stream.kept = Buffer.from(stream.kept.subarray(needed - stream.keptFrom));
        stream.keptFrom = needed;
        return given;
      },
      flush: () => end(false),
    },
  };
}

/** Everything up to an offset, with what was found masked; ranges that overlap or touch are one. */
function give(stream: Stream, to: number): Buffer {
  const ready = stream.found.filter((range) => range.from < to);
  if (ready.length === 0) {
    if (to <= stream.givenTo) return NOTHING;
    const given = stream.kept.subarray(stream.givenTo - stream.keptFrom, to - stream.keptFrom);
    stream.givenTo = to;
    return given;
  }
  stream.found = stream.found.filter((range) => range.from >= to);
  ready.sort((a, b) => a.from - b.from);
  const parts: Buffer[] = [];
  const giveTo = (offset: number): void => {
    if (offset <= stream.givenTo) return;
    parts.push(stream.kept.subarray(stream.givenTo - stream.keptFrom, offset - stream.keptFrom));
    stream.givenTo = offset;
  };
  for (const range of ready) {
    giveTo(range.from);
    if (range.from > stream.maskedTo) parts.push(STARS);
    stream.maskedTo = Math.max(stream.maskedTo, range.to);
    stream.givenTo = Math.max(stream.givenTo, range.to);
  }
  giveTo(to);
  return Buffer.concat(parts);
}
