/** In which bytes a secret may appear in output: as it is, line by line, and in base64 at any place of a longer text. */

import { SECRET_CHARS_MIN } from '../src/job/names.ts';

export interface Forms {
  /** To be found in the output as it is, and in what URL- and JSON-escaped output means. */
  plain: Buffer[];
  /** To be found in base64 of the standard alphabet. */
  base64: Buffer[];
}

export function formsOf(secrets: readonly string[]): Forms {
  const texts = [...new Set(secrets.flatMap(textsOf))];
  return { plain: texts.map((text) => Buffer.from(text)), base64: texts.flatMap(base64FormsOf) };
}

/** Whether a value is long enough to be masked; blanks around it do not count. */
function isMaskable(secret: string): boolean {
  return [...secret.trim()].length >= SECRET_CHARS_MIN;
}

/** The whole; its lines; and all on one line, as a shell gives it that was not told to keep the blanks. */
function textsOf(secret: string): string[] {
  const lines = secret.split(/\r?\n|\r/);
  const texts = [secret, secret.trim(), secret.trim().replace(/\s+/g, ' '), ...lines.map((line) => line.trim())];
  return texts.filter(isMaskable);
}

/**
 * What stands in base64 wherever the text begins in the groups of three bytes, and whatever follows: the characters that the text
 * alone decides. And, longer by a character and the padding, what stands at the end of an encoded text, with a newline or without.
 */
function base64FormsOf(text: string): Buffer[] {
  const forms: string[] = [];
  for (const before of [0, 1, 2]) {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(text)]);
    const first = Math.ceil((before * 8) / 6);
    forms.push(bytes.toString('base64').slice(first, Math.floor((bytes.length * 8) / 6)));
    for (const end of ['', '\n']) {
      const padded = Buffer.concat([bytes, Buffer.from(end)])
        .toString('base64')
        .slice(first);
      forms.push(padded, padded.replace(/=+$/, ''));
    }
  }
  return [...new Set(forms)].map((form) => Buffer.from(form));
}
