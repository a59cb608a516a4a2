/**
 * The folders of the measurements. A file system without a journal looks for the place of a new file behind those that were deleted in the
 * last minutes, so what one measurement removes would slow those after it: what is small is removed at the end of all.
 */
import { readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { type TempFolder, tempFolder } from '../../test/support/temp.ts';

const LARGE_BYTES = 1024 * 1024;
const left: string[] = [];

/** A temporary folder, left as leaveFolder() does. */
export function scratchFolder(): TempFolder {
  const { path } = tempFolder();
  return { path, remove: () => leaveFolder(path) };
}

/** Gives the room of its large files back at once. */
export function leaveFolder(path: string): void {
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (entry.isFile() && statSync(file).size >= LARGE_BYTES) truncateSync(file);
  }
  left.push(path);
}

process.once('exit', () => {
  for (const path of left) rmSync(path, { recursive: true, force: true });
});
