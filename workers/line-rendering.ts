/** Lines of output in the log's one form, a JSON object a line (src/job/log-entry.ts): many at once, since a script may write a million. */
import { isAscii, isUtf8 } from 'node:buffer';
import type { Source } from '../src/job/log-entry.ts';
import type { Segment } from './line-cutting.ts';

export interface Rendered {
  ndjson: Buffer;
  lines: number;
  /** The bytes that count for the digest: what is not UTF-8 is replaced in them. */
  text: Buffer;
}

/** `line` is the number of the first. */
export interface RenderOptions {
  line: number;
  atMs: number;
  source: Source;
}

export function renderLines(segments: readonly Segment[], { line, atMs, source }: RenderOptions): Rendered {
  const head = `,"atMs":${atMs},"source":"${source}","text":"`;
  const parts: Rendered[] = [];
  let next = line;
  for (const segment of segments) {
    const part = renderSegment(segment, next, head);
    next += part.lines;
    parts.push(part);
  }
  if (parts.length === 1) return parts[0] as Rendered;
  return {
    ndjson: Buffer.concat(parts.map(({ ndjson }) => ndjson)),
    lines: next - line,
    text: Buffer.concat(parts.map(({ text }) => text)),
  };
}

/** What JSON escapes. Newlines are not in a line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const ESCAPED = /[\u0000-\u0009\u000b-\u001f"\\]/;

function renderSegment({ bytes, continued }: Segment, line: number, head: string): Rendered {
  // Newlines are never part of a longer character, so decoding many lines at once gives what decoding each would.
  const ascii = isAscii(bytes);
  const whole = ascii ? bytes.toString('latin1') : bytes.toString();
  const text = ascii || isUtf8(bytes) ? bytes : Buffer.from(whole);
  const lines = continued ? [whole] : whole.slice(0, -1).split('\n');
  // One look at all of them: most output has nothing to escape.
  const escaped = ESCAPED.test(whole);
  for (let index = 0; index < lines.length; index += 1) {
    const one = lines[index] as string;
    lines[index] = `{"line":${line + index}${head}${escaped ? JSON.stringify(one).slice(1, -1) : one}`;
  }
  const ndjson = continued ? `${lines[0]}","continued":true}\n` : `${lines.join('"}\n')}"}\n`;
  // Plain ASCII takes no second look at each character.
  return { ndjson: Buffer.from(ndjson, ascii ? 'latin1' : 'utf8'), lines: lines.length, text };
}
