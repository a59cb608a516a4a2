/** Temporary folders of the tests, below the checkout's ignored `.test/`. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../.test/', import.meta.url));

export interface TempFolder {
  path: string;
  remove(): void;
}

export function tempFolder(): TempFolder {
  mkdirSync(ROOT, { recursive: true });
  const path = mkdtempSync(`${ROOT}t-`);
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
