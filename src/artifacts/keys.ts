/** What may name a blob or a document in either store, so that no name leads out of its place. */
import { limits } from '../job/limits.ts';
import { BuilderError } from '../service/errors.ts';

/** Places of the stores themselves; no document lies there. */
const RESERVED = new Set(['blobs', 'incoming', 'health']);

/** Throws `invalid-value` for anything but a SHA-256 in lower-case hexadecimal. */
export function checkDigest(sha256: string): void {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw refused('a SHA-256 of 64 lower-case hexadecimal digits', sha256);
}

/** Throws `invalid-value` unless the key is relative, two names deep at least, without `.` or `..`, and no place of the store's own. */
export function checkDocumentKey(key: string): void {
  checkDocumentPrefix(key);
  const names = key.split('/');
  if (names.length < 2 || names.includes('')) throw refused('a key of a document such as runs/RUN/manifest.json', key);
}

/** As `checkDocumentKey`, for the beginning of keys: it may end anywhere behind the first `/`. */
export function checkDocumentPrefix(prefix: string): void {
  const names = prefix.split('/');
  const first = names[0] ?? '';
  const expected = 'a key below a folder such as runs/';
  if (names.length < 2 || !/^[a-z][a-z0-9-]*$/.test(first) || RESERVED.has(first)) throw refused(expected, prefix);
  if (names.slice(0, -1).includes('')) throw refused(expected, prefix);
  if (names.includes('.') || names.includes('..')) throw refused('a key without . and ..', prefix);
  if (hasControls(prefix) || Buffer.from(prefix).toString() !== prefix) throw refused('a key without control characters', prefix);
  if (Buffer.byteLength(prefix) > limits.documentKeyBytesMax) throw refused(`a key of at most ${limits.documentKeyBytesMax} bytes`, prefix);
}

/** Ascending order of bytes, which is neither JavaScript's (UTF-16) nor any locale's. */
export function inByteOrder(keys: string[]): string[] {
  return keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

function hasControls(text: string): boolean {
  return /\p{Cc}/u.test(text);
}

function refused(expected: string, got: string): BuilderError {
  return new BuilderError('invalid-value', `expected ${expected}, got ${JSON.stringify(got.slice(0, 300))}`);
}
