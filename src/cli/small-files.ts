/** Small files put in their places without a wait: the way through Node's thread pool takes each of them some times as long. */
import fs from 'node:fs';
import { limits } from '../job/limits.ts';

export interface SmallFile {
  /** A name in the folder of `target` that nobody has. */
  temporary: string;
  target: string;
  mode: number;
  content: Buffer;
}

/** False is no answer: nothing has been done then, and who waits for the system does it or learns what is wrong. */
export interface SmallFiles {
  /** Nothing lies there. */
  isFree(path: string): boolean;
  /** It lies there whole. */
  place(file: SmallFile): boolean;
}

/** Does nothing more where it took longer than limits.placingMsMax a file: from a folder of the network answers are awaited together. */
export function createSmallFiles(): SmallFiles {
  let [spentMs, times] = [0, 0];
  const quickly = (work: () => boolean): boolean => {
    if (spentMs > limits.placingMsMax * (times + limits.filesAtOnce)) return false;
    const startedAtMs = performance.now();
    try {
      return work();
    } catch {
      return false;
    } finally {
      spentMs += performance.now() - startedAtMs;
      times += 1;
    }
  };
  return {
    isFree: (path) => quickly(() => fs.lstatSync(path, { throwIfNoEntry: false }) === undefined),
    place: (file) => quickly(() => placeNow(file)),
  };
}

function placeNow({ temporary, target, mode, content }: SmallFile): true {
  const file = fs.openSync(temporary, 'wx', 0o600);
  try {
    try {
      fs.writeFileSync(file, content);
      fs.fchmodSync(file, mode);
    } finally {
      fs.closeSync(file);
    }
    fs.renameSync(temporary, target);
    return true;
  } catch (cause) {
    fs.rmSync(temporary, { force: true });
    throw cause;
  }
}
