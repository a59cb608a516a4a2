/** builder's version, from package.json beside the sources or the build. */
import { readFileSync } from 'node:fs';

/** Walks up from this file: the sources lie two folders below package.json, the build three. */
export function version(): string {
  for (const up of ['../../', '../../../']) {
    try {
      const parsed: unknown = JSON.parse(readFileSync(new URL(`${up}package.json`, import.meta.url), 'utf8'));
      if (typeof parsed === 'object' && parsed !== null && 'version' in parsed) return String(parsed.version);
    } catch {
      // The build has one folder more above it than the sources: look further up.
    }
  }
  return '0.0.0';
}
