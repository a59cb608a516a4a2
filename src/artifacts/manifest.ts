/** The manifest of an attempt: what the store itself tells of it, without Redis. */
import { Manifest } from '../job/artifact.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import type { Store } from './store.ts';

export async function writeManifest(store: Store, manifest: Manifest): Promise<void> {
  const { run, attempt, claim } = manifest;
  await store.putDocument(manifestKey(run, attempt, claim), Buffer.from(`${JSON.stringify(manifest)}\n`));
}

/** Null where the attempt left none; throws BuilderError `damaged` for one that cannot be read as a manifest. */
export async function readManifest(store: Store, run: string, attempt: number, claim: string): Promise<Manifest | null> {
  const key = manifestKey(run, attempt, claim);
  const content = await store.getDocument(key);
  if (content === null) return null;
  try {
    return Manifest.parse(JSON.parse(content.toString()));
  } catch (cause) {
    throw new BuilderError('damaged', `expected a manifest at ${key}, got ${oneLine(cause).slice(0, 200)}`, { cause });
  }
}

function manifestKey(run: string, attempt: number, claim: string): string {
  return `runs/${run}/${attempt}-${claim}/manifest.json`;
}
