/** Removing a folder that a script has filled, whatever rights it gave to what lies in it. */
import { chmod, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../src/artifacts/durable-files.ts';

const FORBIDDEN = new Set(['EACCES', 'EPERM']);

/** A missing folder is no fault. Links are removed, never followed. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (cause) {
    if (!FORBIDDEN.has(codeOf(cause))) throw cause;
    await openFolders(path);
    await rm(path, { recursive: true, force: true });
  }
}

/** Gives the owner back the right to empty each folder. */
async function openFolders(path: string): Promise<void> {
  await chmod(path, 0o700);
  for (const entry of await readdir(path, { withFileTypes: true, encoding: 'buffer' })) {
    if (entry.isDirectory()) await openFolders(join(path, entry.name.toString('latin1'))).catch(() => undefined);
  }
}
