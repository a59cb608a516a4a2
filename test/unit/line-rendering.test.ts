import { describe, expect, it } from '@jest/globals';
import { parseLogEntry } from '../../src/job/log-entry.ts';
import { renderLines } from '../../workers/line-rendering.ts';

const render = (bytes: Buffer, continued = false) => renderLines([{ bytes, continued }], { line: 9, atMs: 12, source: 'stderr' });
const asJson = (texts: string[]): string =>
  texts.map((text, index) => `${JSON.stringify({ line: 9 + index, atMs: 12, source: 'stderr', text })}\n`).join('');

describe('lines of output', () => {
  it('are what JSON makes of them, whatever characters they have', () => {
    const ascii = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code)).filter((character) => character !== '\n');
    const texts = ['', ...ascii, ascii.join(''), 'äöü€\u2028\ud83d\ude00', '"'.repeat(400_000), 'x'.repeat(700_000), ''];
    const { ndjson, lines, text } = render(Buffer.from(`${texts.join('\n')}\n`));
    expect(ndjson.toString() === asJson(texts)).toBe(true);
    expect(lines).toBe(texts.length);
    expect(text.toString() === `${texts.join('\n')}\n`).toBe(true);
  });

  it('are so wherever in a line a character stands, and wherever the line lies', () => {
    const others = ['"', '\\', '\t', '\u001f', ' ', '!', '#', '[', '\u007f', 'é'];
    const texts = others.flatMap((other) =>
      Array.from({ length: 40 }, (_, before) => `${'x'.repeat(before)}${other}${'ÿ'.repeat(before % 7)}${'y'.repeat(before % 5)}`),
    );
    const plain = texts.map((text) => text.replaceAll(/[^ !#[xyéÿ]/g, ''));
    for (const lines of [texts, plain, texts.flatMap((text) => [text, 'plain', 'a longer one, that is plain as well'])]) {
      const half = Math.floor(lines.length / 2);
      const parts = [lines.slice(0, half), lines.slice(half)].map((some) => Buffer.from(`${some.join('\n')}\n`));
      const { ndjson } = renderLines(
        parts.map((bytes) => ({ bytes, continued: false })),
        { line: 9, atMs: 12, source: 'stderr' },
      );
      expect(ndjson.toString()).toBe(asJson(lines));
    }
  });

  it('that are not UTF-8 have a mark instead, and count so', () => {
    const { ndjson, text } = render(Buffer.from([0x61, 0xff, 0x0a, 0x62, 0x0a]));
    expect(ndjson.toString()).toBe(asJson(['a\ufffd', 'b']));
    expect(text.toString()).toBe('a\ufffd\nb\n');
  });

  it('that go on are told as such, and a later call does not change what an earlier one made', () => {
    const first = render(Buffer.from('part'), true);
    const second = renderLines(
      [
        { bytes: Buffer.from('a\n'), continued: false },
        { bytes: Buffer.from('b'), continued: true },
      ],
      { line: 999_999_999, atMs: 3, source: 'stdout' },
    );
    expect(parseLogEntry(first.ndjson.toString())).toEqual({ line: 9, atMs: 12, source: 'stderr', text: 'part', continued: true });
    expect(second.ndjson.toString().trimEnd().split('\n').map(parseLogEntry)).toEqual([
      { line: 999_999_999, atMs: 3, source: 'stdout', text: 'a' },
      { line: 1_000_000_000, atMs: 3, source: 'stdout', text: 'b', continued: true },
    ]);
    expect([second.lines, second.text.toString()]).toEqual([2, 'a\nb']);
  });
});
