/** Which files of a run `download` takes. */
import type { Artifact } from '../job/artifact.ts';
import { checkRelativePath } from '../job/names.ts';
import { BuilderError } from '../service/errors.ts';
import { visible } from './output.ts';

export interface Chosen {
  taken: Artifact[];
  /** Unchanged inputs that nobody asked for. */
  leftOut: number;
}

/** Files and all below folders as named, else everything but unchanged inputs. Throws `not-found` for a path that is neither. */
export function chooseArtifacts(artifacts: Artifact[], paths: string[]): Chosen {
  for (const { path } of artifacts) checkPlain(path);
  if (paths.length === 0) {
    const taken = artifacts.filter(({ input }) => input !== 'unchanged');
    return { taken, leftOut: artifacts.length - taken.length };
  }
  const taken = new Set<Artifact>();
  for (const path of paths) for (const artifact of namedBy(path, artifacts)) taken.add(artifact);
  return { taken: [...taken], leftOut: 0 };
}

function namedBy(path: string, artifacts: Artifact[]): Artifact[] {
  if (/^\.?\/?$/.test(path) && path !== '/' && path !== '') return artifacts;
  const plain = checkRelativePath(path);
  const found = artifacts.filter((one) => one.path === plain || one.path.startsWith(`${plain}/`));
  if (found.length > 0) return found;
  throw new BuilderError('not-found', `expected a file or folder of the run, got ${visible(path)} (builder artifacts lists them)`);
}

/** A name that a server should never have accepted is refused before anything is written. */
function checkPlain(path: string): void {
  let plain: string | null = null;
  try {
    plain = checkRelativePath(path);
  } catch {
    // Said below, in words about the server's answer.
  }
  if (plain !== path)
    throw new BuilderError('damaged', `expected names inside the run's folder, got ${JSON.stringify(path)}; nothing was written`);
}
