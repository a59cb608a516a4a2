/** Faults of the worker's own disk, as one line for people. */
import { codeOf } from '../src/artifacts/durable-files.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';

const NO_ROOM = ['ENOSPC', 'EDQUOT'];
const FULL = new Set([...NO_ROOM, 'EFBIG']);

/** `store-full` where there is no room, else `internal`; an error that is told already stays as it is. `what` goes on after «expected to». */
export function diskFault(cause: unknown, what: string): BuilderError {
  if (cause instanceof BuilderError) return cause;
  const full = FULL.has(codeOf(cause));
  return new BuilderError(full ? 'store-full' : 'internal', `expected to ${what}, got ${oneLine(cause)}`, { cause });
}

/** The disk, or what this user may have of it, is used up. */
export function isNoRoom(cause: unknown): boolean {
  return NO_ROOM.includes(codeOf(cause));
}
