import { describe, expect, it } from '@jest/globals';
import { createMask } from '../../workers/masker.ts';
import { formsOf } from '../../workers/secret-forms.ts';

const SECRET = 'pa$$ "w/ö+rd\\ 😀%';

function masked(secrets: string[], chunks: (Buffer | string)[]): string {
  const masker = createMask(secrets).stream();
  return Buffer.concat([...chunks.map((chunk) => masker.push(Buffer.from(chunk))), masker.flush()]).toString('latin1');
}

/** Cut into two at every place, and into single bytes. */
function everyWay(text: Buffer | string): Buffer[][] {
  const bytes = Buffer.from(text);
  const halves = Array.from({ length: bytes.length + 1 }, (_, at) => [bytes.subarray(0, at), bytes.subarray(at)]);
  return [...halves, Array.from(bytes, (byte) => Buffer.of(byte))];
}

const percent = (text: string, lower = false): string =>
  [...Buffer.from(text)]
    .map((byte) => `%${byte.toString(16).padStart(2, '0')}`)
    .map((one) => (lower ? one : one.toUpperCase()))
    .join('');
const unicode = (text: string): string =>
  Array.from({ length: text.length }, (_, n) => `\\u${text.charCodeAt(n).toString(16).padStart(4, '0')}`).join('');

describe('a secret', () => {
  it.each([
    ['as it is', SECRET],
    ['URL-escaped', encodeURIComponent(SECRET)],
    ['URL-escaped in lower case', encodeURIComponent(SECRET).replace(/%../g, (one) => one.toLowerCase())],
    ['URL-escaped where it has to be', encodeURI(SECRET)],
    ['URL-escaped byte by byte', percent(SECRET)],
    ['URL-escaped byte by byte in lower case', percent(SECRET, true)],
    ['as a form is sent', new URLSearchParams({ x: SECRET }).toString().slice(2)],
    ['JSON-escaped', JSON.stringify(SECRET).slice(1, -1)],
    ['JSON-escaped with slashes', JSON.stringify(SECRET).slice(1, -1).replaceAll('/', '\\/')],
    ['JSON-escaped to ASCII', unicode(SECRET)],
    ['JSON-escaped to ASCII in upper case', unicode(SECRET).replace(/[a-f]/g, (digit) => digit.toUpperCase())],
    ['in base64', Buffer.from(SECRET).toString('base64')],
    ['in base64 without padding', Buffer.from(SECRET).toString('base64').replace(/=+$/, '')],
    ['in base64 with a newline', Buffer.from(`${SECRET}\n`).toString('base64')],
    ['in base64 of the URL alphabet', Buffer.from(SECRET).toString('base64url')],
  ])('%s is masked, wherever the output is cut', (_, form) => {
    for (const chunks of everyWay(`before ${form} after\n`)) expect(masked([SECRET], chunks)).toBe('before *** after\n');
    expect(masked([SECRET], [form])).toBe('***');
  });

  it.each(['', 'u', 'us', 'use', 'user:'])('in base64 behind %j is masked in both alphabets, but for the edge that it shares', (before) => {
    for (const secret of ['s3cr3t-\u00ff\u00fe\u00fb~~?', 'abcd', 'abcdefgh']) {
      for (const after of ['', '\n', '\0after', '~~~']) {
        for (const alphabet of ['base64', 'base64url'] as const) {
          const text = Buffer.from(`${before}${secret}${after}`).toString(alphabet);
          for (const chunks of everyWay(text)) {
            const shown = masked([secret], chunks);
            expect(shown).toContain('***');
            const own = Math.floor((Buffer.byteLength(secret) * 8) / 6) - 1;
            expect(shown.replace(/=/g, '').length).toBeLessThanOrEqual(text.replace(/=/g, '').length - own + 3);
          }
        }
      }
    }
  });

  it.each([64, 76])('in base64 broken into lines of %d is masked', (columns) => {
    const secret = Array.from({ length: 40 }, (_, n) => `${n * 7919} is a word of the key`).join('-');
    for (let before = 0; before < 9; before += 1) {
      const whole = Buffer.from(`${'x'.repeat(before)}${secret}`).toString('base64');
      for (const end of ['\n', '\r\n']) {
        const broken = whole.replace(new RegExp(`.{${columns}}`, 'g'), `$&${end}`);
        const shown = masked([secret], [broken.slice(0, 301), broken.slice(301, 303), broken.slice(303)]);
        expect(shown.length).toBeLessThan(before * 2 + 8);
      }
    }
  });

  it('of several lines is masked as a whole and line by line', () => {
    const key = '-----BEGIN KEY-----\nMIIEvQIBADANBg\n  indented line\nxy\n-----END KEY-----';
    for (const chunks of everyWay(`<${key}>`)) expect(masked([key], chunks)).toBe('<***>');
    expect(masked([key], ['one: MIIEvQIBADANBg!\nindented line, xy\n'])).toBe('one: ***!\n***, xy\n');
    expect(masked([key], [JSON.stringify(key)])).toBe('"***"');
    expect(masked([key], [key.replace(/\s+/g, ' ')])).toBe('***');
    expect(masked([key], [Buffer.from('MIIEvQIBADANBg').toString('base64')])).toBe('***');
  });

  it('that holds another, overlaps itself or touches another is masked whole', () => {
    expect(masked(['secret', 'my-secret-value'], ['my-secret-value secret my-secret'])).toBe('*** *** my-***');
    expect(masked(['abab'], ['xabababy'])).toBe('x***y');
    expect(masked(['abcd', 'cdef'], ['abcdef abcdabcd'])).toBe('*** ***');
  });

  it('is masked in bytes that are no text, which stay as they are', () => {
    const noise = Buffer.from([0, 0xff, 0xc3, 0x28, 0x25, 0x5c, 0x75]);
    const shown = masked(['secret'], [noise, Buffer.from('sec'), Buffer.from('ret'), noise]);
    expect(shown).toBe(`${noise.toString('latin1')}***${noise.toString('latin1')}`);
  });
});

describe('output', () => {
  it('that cannot be the beginning of a secret is not held back', () => {
    const masker = createMask(['secret', 'a longer secret with blanks']).stream();
    expect(masker.push(Buffer.from('a line\n')).toString()).toBe('a line\n');
    expect(masker.push(Buffer.from('progress 10')).toString()).toBe('progress 10');
    expect(masker.push(Buffer.from(' s')).toString()).toBe(' ');
    expect(masker.push(Buffer.from('ecre')).toString()).toBe('');
    expect(masker.push(Buffer.from('s\n')).toString()).toBe('secres\n');
    expect(masker.push(Buffer.from('ends with sec')).toString()).toBe('ends with ');
    expect(masker.flush().toString()).toBe('sec');
  });

  it('of a run without secrets is passed on as it is', () => {
    const chunk = Buffer.from('anything');
    expect(createMask([]).stream().push(chunk)).toBe(chunk);
  });

  it('of builder itself that was cut hides the beginning of a secret at its end', () => {
    const mask = createMask(['secret-value']);
    expect(mask.text('curl -u me:secret-value', { cut: true })).toBe('curl -u me:***');
    expect(mask.text('curl -u me:secret-va', { cut: true })).toBe('curl -u me:***');
    expect(mask.text('curl -u me:secret-va')).toBe('curl -u me:secret-va');
  });
});

/** A generator of numbers that can be had again (mulberry32). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** The same by plain means: everything at once, each reading decoded whole, each form looked for at every place. */
function reference(secrets: string[], text: string): string {
  const forms = formsOf(secrets);
  const readings: [RegExp, (found: string) => string][] = [
    [/$^/g, String],
    [/%[0-9a-f]{2}/gi, (one) => String.fromCharCode(Number.parseInt(one.slice(1), 16))],
    [/\\(?:["\\/bfnrt]|u[0-9a-f]{4})/gi, (one) => (/^\\[BFNRTU](?!$)/.test(one) ? one : JSON.parse(`"${one}"`))],
  ];
  if (secrets.some((secret) => secret.includes(' '))) {
    readings.push([/%[0-9a-f]{2}|\+/gi, (one) => (one === '+' ? ' ' : String.fromCharCode(Number.parseInt(one.slice(1), 16)))]);
  }
  const hidden = new Uint8Array(text.length);
  const find = (decoded: { character: string; from: number; to: number }[], form: string): void => {
    const whole = decoded.map(({ character }) => character).join('');
    for (let at = whole.indexOf(form); at >= 0; at = whole.indexOf(form, at + 1)) {
      hidden.fill(1, decoded[at]?.from, decoded[at + form.length - 1]?.to);
    }
  };
  for (const [escapes, meaning] of readings) {
    const decoded: { character: string; from: number; to: number }[] = [];
    for (let at = 0; at < text.length; ) {
      const found = [...text.slice(at, at + 6).matchAll(escapes)].find(({ index }) => index === 0)?.[0];
      const said = found === undefined ? text.charAt(at) : meaning(found);
      const width = found === undefined || said === found ? 1 : found.length;
      decoded.push({ character: width === 1 && said.length > 1 ? text.charAt(at) : said, from: at, to: at + width });
      at += width;
    }
    for (const form of forms.plain) find(decoded, form.toString());
  }
  const standard = [...text].map((character, at) => ({ character: { '-': '+', _: '/' }[character] ?? character, from: at, to: at + 1 }));
  for (const form of forms.base64) find(standard, form.toString());
  return [...text].map((character, at) => (hidden[at] === 0 ? character : hidden[at - 1] === 1 ? '' : '***')).join('');
}

describe('random output', () => {
  it('is masked as a search through all of it at once would do', () => {
    for (let seed = 1; seed <= 3_000; seed += 1) {
      const below = numbers(seed);
      const word = (letters: string, most: number): string =>
        Array.from({ length: 4 + below(most) }, () => letters.charAt(below(letters.length))).join('');
      const letters = ['ab', 'ab"\\', 'a%+ b', 'abcdefgh01/'][below(4)] ?? '';
      const secrets = Array.from({ length: 1 + below(3) }, () => word(letters, 6)).filter((one) => one.trim().length >= 4);
      if (secrets.length === 0) continue;
      const pieces = Array.from({ length: 1 + below(12) }, () => {
        const secret = secrets[below(secrets.length)] ?? '';
        const forms = [secret, encodeURIComponent(secret), percent(secret, true), JSON.stringify(secret), unicode(secret)];
        forms.push(Buffer.from(`${'x'.repeat(below(3))}${secret}`).toString('base64'), word(letters, 9), word('%\\u0+61', 9));
        const form = forms[below(forms.length)] ?? '';
        return below(4) === 0 ? form.slice(0, below(form.length)) : form;
      });
      const text = pieces.join(['', ' ', '\n'][below(3)]);
      const chunks: string[] = [];
      for (let at = 0; at < text.length; ) {
        const size = 1 + below(9);
        chunks.push(text.slice(at, at + size));
        at += size;
      }
      expect([seed, secrets, text, masked(secrets, chunks)]).toEqual([seed, secrets, text, reference(secrets, text)]);
    }
  });
});
