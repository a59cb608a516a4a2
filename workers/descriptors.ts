/** Open files run out for all of a program at once, for a moment: that says nothing of the file that could not be opened. */
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../src/artifacts/durable-files.ts';
import { limits } from '../src/job/limits.ts';

/** Tries again as long as no more files can be opened, by the program or on the machine. Throws the signal's reason, and all else that the work throws. */
export async function onceFilesOpen<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (cause) {
      if (!['EMFILE', 'ENFILE'].includes(codeOf(cause))) throw cause;
    }
    await sleep(limits.descriptorRetryMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
