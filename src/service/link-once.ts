/** A small file that is there whole or not at all, made by whoever comes first. */
import { link, rm, writeFile } from 'node:fs/promises';

/** False where there is one already, which stays as it is; mode 0600. Throws the system's error. */
export async function linkOnce(path: string, text: string): Promise<boolean> {
  const temporary = `${path}.${process.pid}.new`;
  try {
    await writeFile(temporary, text, { mode: 0o600 });
    await link(temporary, path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw cause;
  } finally {
    await rm(temporary, { force: true });
  }
}
