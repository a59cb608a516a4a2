/** What came in, parsed by its schema; every fault on one line. */
import type { z } from 'zod';
import { InvalidValue } from '../job/invalid-value.ts';
import { BuilderError } from '../service/errors.ts';
import { describeIssues, wordsFor } from '../service/zod-message.ts';

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
