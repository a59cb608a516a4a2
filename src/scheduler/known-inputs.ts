/** Inputs that a job or run names must be in the store before it is accepted. */
import type { InputFile } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import { eachAtOnce } from '../service/each.ts';
import { BuilderError } from '../service/errors.ts';
import type { ServerContext } from './server-context.ts';

/** Throws `invalid-value` naming the first that is not there. */
export async function checkInputs(context: ServerContext, inputs: InputFile[]): Promise<void> {
  await eachAtOnce(inputs, limits.filesAtOnce, async ({ path, sha256 }) => {
    if ((await context.store.statBlob(sha256)) !== null) return;
    throw new BuilderError(
      'invalid-value',
      `expected the input ${path} to be stored before (PUT /api/v1/inputs), got an unknown SHA-256 ${sha256}`,
    );
  });
}
