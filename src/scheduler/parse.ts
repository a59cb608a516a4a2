/** What came in, parsed by its schema; every fault on one line. */
import type { z } from 'zod';
import { InvalidValue } from '../job/invalid-value.ts';
import { BuilderError } from '../service/errors.ts';
import { describeIssues } from '../service/zod-message.ts';

const SHOWN_CHARS_MAX = 60;

/** Throws `invalid-value` naming every fault with its place. */
export function parse<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const parsed = schema.safeParse(value ?? {}, { error: wordsFor });
  if (parsed.success) return parsed.data;
  throw new BuilderError('invalid-value', describeIssues(parsed.error.issues));
}

/** The answer of `read`, or InvalidValue's words as `invalid-value`. */
export function checked<T>(read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    if (thrown instanceof InvalidValue) throw new BuilderError('invalid-value', thrown.message, { cause: thrown });
    throw thrown;
  }
}

/** «expected X, got Y» where the schema has no words of its own. Values of strings are not shown: they may be secrets. */
function wordsFor(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${issue.expected}, got ${kindOf(issue.input)}`;
    case 'invalid_value':
      return `expected ${issue.values.map(String).join(', ')}, got ${shown(issue.input)}`;
    case 'unrecognized_keys':
      return `expected no field ${issue.keys.map((key) => JSON.stringify(key.slice(0, SHOWN_CHARS_MAX))).join(', ')}`;
    case 'too_big':
      return `expected at most ${issue.maximum}${unitOf(issue.origin)}, got ${sizeOf(issue.input)}`;
    case 'too_small':
      return `expected at least ${issue.minimum}${unitOf(issue.origin)}, got ${sizeOf(issue.input)}`;
    case 'invalid_key':
      return issue.issues.map(({ message }) => message).join(', ');
    default:
      return undefined;
  }
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return Number.isNaN(value) ? 'something else' : `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`;
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, SHOWN_CHARS_MAX)) : kindOf(value);
}

function sizeOf(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  return typeof value === 'string' || Array.isArray(value) ? String(value.length) : 'another size';
}

function unitOf(origin: string): string {
  if (origin === 'string') return ' characters';
  return origin === 'array' ? ' entries' : '';
}
