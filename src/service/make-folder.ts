/** Making a folder with those above it. Node's own recursive mkdir never returns below `/proc`, where none can be made. */
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** One that is there already stays as it is; new ones get `mode`. Throws the system's error. */
export async function makeFolder(path: string, mode = 0o777): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (code !== 'ENOENT' || dirname(path) === path) throw cause;
    await makeFolder(dirname(path), mode);
    await mkdir(path, { mode }).catch((again: NodeJS.ErrnoException) => {
      // Another process has made it meanwhile.
      if (again.code !== 'EEXIST') throw again;
    });
  }
}
