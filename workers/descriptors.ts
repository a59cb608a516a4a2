/** Open files run out for all of a program at once, for a while: that says nothing of the file that could not be opened. */
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../src/artifacts/durable-files.ts';
import { limits } from '../src/job/limits.ts';
import { BuilderError } from '../src/service/errors.ts';

/**
 * Tries again while no more files can be opened, by the program or on the machine: what the same run has open is closed meanwhile. Throws
 * `store-unavailable` after `limits.descriptorsMsMax` of that, the signal's reason, and all else that the work throws.
 */
export async function onceFilesOpen<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let refusedAtMs: number | null = null; ; ) {
    try {
      return await work();
    } catch (cause) {
      // A folder store tells of its own files in its own words.
      const code = codeOf(cause instanceof BuilderError ? cause.cause : cause);
      if (!['EMFILE', 'ENFILE'].includes(code)) throw cause;
      refusedAtMs ??= performance.now();
      if (performance.now() - refusedAtMs > limits.descriptorsMsMax) {
        throw new BuilderError('store-unavailable', `expected to open a file that the run left, got ${code}: no more can be opened`, {
          cause,
        });
      }
    }
    await sleep(limits.descriptorRetryMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
