/** The names in a folder, where only a few are expected. */
import { opendirSync } from 'node:fs';

/** Whether it holds all of these and nothing else; reads little of a folder that holds more. Throws the system's errors. */
export function holdsOnly(path: string, names: readonly string[]): boolean {
  const folder = opendirSync(path);
  try {
    let left = names.length;
    for (let entry = folder.readSync(); entry !== null; entry = folder.readSync()) {
      if (!names.includes(entry.name)) return false;
      left -= 1;
    }
    return left === 0;
  } finally {
    folder.closeSync();
  }
}
