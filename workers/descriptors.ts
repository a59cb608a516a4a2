/** Open files run out for all of a program at once, for a while: that says nothing of the file that could not be opened. */
import { codeOf } from '../src/artifacts/durable-files.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';

/** Throws `store-unavailable`, which is waited out, where no more files can be opened, by the program or on the machine. */
export function refuseOutOfFiles(cause: unknown): void {
  if (!['EMFILE', 'ENFILE'].includes(codeOf(cause))) return;
  throw new BuilderError('store-unavailable', `expected to open what the run left, got ${oneLine(cause)}`, { cause });
}
