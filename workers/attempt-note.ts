/** What lies beside the spool of a running attempt, so that what its worker leaves can be stored without Redis. */
import { z } from 'zod';
import { limits } from '../src/job/limits.ts';
import { RunSpec } from '../src/job/run.ts';
import { diskFault } from './disk-fault.ts';
import { readRegular } from './regular-file.ts';
import { rewrite } from './spare-folder.ts';

/** The spec names secrets, and has none of their values. */
const AttemptNote = z.object({ spec: RunSpec, worker: z.string(), startedAt: z.iso.datetime() });
export type AttemptNote = z.infer<typeof AttemptNote>;

/** At once: one small write that every run waits for. Throws as diskFault tells. */
export function writeAttemptNote(path: string, note: AttemptNote): void {
  try {
    rewrite(path, Buffer.from(JSON.stringify(note)), 0o600);
  } catch (cause) {
    throw diskFault(cause, `write ${path}`);
  }
}

/** Null where there is none that can be read as one. */
export async function readAttemptNote(path: string): Promise<AttemptNote | null> {
  try {
    return AttemptNote.parse(JSON.parse((await readRegular(path, 2 * limits.bodyBytesMax)) ?? ''));
  } catch {
    return null;
  }
}
