/** The names in a folder, where only a few are expected. */
import { lstatSync, opendirSync, readdirSync } from 'node:fs';

/** A folder of no more bytes holds some thousand names at most; 0 says nothing. */
const FEW_BYTES = 4096;

/** Whether it holds all of these and nothing else; reads little of a folder that holds more. Throws the system's errors. */
export function holdsOnly(path: string, names: readonly string[]): boolean {
  // All at once costs less than half of one by one.
  const { size } = lstatSync(path);
  if (size > 0 && size <= FEW_BYTES) {
    const found = readdirSync(path);
    return found.length === names.length && found.every((name) => names.includes(name));
  }
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
