/** One line for people out of a failed parse. */
import type { z } from 'zod';

interface Issue {
  path: PropertyKey[];
  message: string;
}

/** `inputs.0.sha256: expected …; env: …`: every fault with its place, on one line. */
export function describeIssues(issues: readonly Issue[]): string {
  return issues.map((issue) => (issue.path.length > 0 ? `${issue.path.map(String).join('.')}: ` : '') + issue.message).join('; ');
}

const SHOWN_CHARS_MAX = 60;

/** «expected X, got Y» where the schema has no words of its own. Values of strings are not shown: they may be secrets. */
export function wordsFor(issue: z.core.$ZodRawIssue): string | undefined {
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
