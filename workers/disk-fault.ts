/** Faults of the worker's own disk, as one line for people. */
import { codeOf, isFull } from '../src/artifacts/durable-files.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';

/** `store-full` where there is no room, else `internal`; an error that is told already stays as it is. `what` goes on after «expected to». */
export function diskFault(cause: unknown, what: string): BuilderError {
  if (cause instanceof BuilderError) return cause;
  const full = isFull(cause) || codeOf(cause) === 'EFBIG';
  return new BuilderError(full ? 'store-full' : 'internal', `expected to ${what}, got ${oneLine(cause)}`, { cause });
}
