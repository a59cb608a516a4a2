/** The checkout, from the sources as well as from what was compiled of them. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const ROOT = rootAbove(new URL('.', import.meta.url));

function rootAbove(folder: URL): string {
  return existsSync(new URL('package.json', folder)) ? fileURLToPath(folder) : rootAbove(new URL('..', folder));
}
