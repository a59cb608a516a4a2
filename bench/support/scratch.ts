/**
 * The folders of the measurements. A file system without a journal looks for the place of a new file behind those that were deleted in the
 * last minutes, so what one measurement removes would slow those after it: what is small is removed at the end of all.
 */
import { lstatSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { type TempFolder, tempFolder } from '../../test/support/temp.ts';

const LARGE_BYTES = 1024 * 1024;
const made: string[] = [];

/** `remove` gives the room of its large files back; the rest stays until the bench ends. */
export function scratchFolder(): TempFolder {
  return kept(tempFolder().path);
}

/** The same at a place that begins so. */
export function scratchFolderAt(prefix: string): TempFolder {
  return kept(mkdtempSync(prefix));
}

function kept(path: string): TempFolder {
  made.push(path);
  return { path, remove: () => emptyLarge(path) };
}

/** Programs that are just ending may still take some of it away. */
function emptyLarge(path: string): void {
  for (const name of leniently(() => readdirSync(path)) ?? []) {
    const entry = join(path, name);
    const found = leniently(() => lstatSync(entry));
    if (found?.isDirectory()) emptyLarge(entry);
    else if (found?.isFile() && found.size >= LARGE_BYTES) leniently(() => truncateSync(entry));
  }
}

function leniently<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

process.once('exit', () => {
  for (const path of made) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch (cause) {
      process.stderr.write(`bench: expected to remove ${path}, got: ${String(cause)}\n`);
    }
  }
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
