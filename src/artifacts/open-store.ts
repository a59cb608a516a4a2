/** The store that a configuration names. */
import type { StoreConfig } from '../service/config.ts';
import { openFolderStore } from './folder-store.ts';
import type { Store } from './store.ts';

/** Makes the folder or bucket where it is missing; throws BuilderError `store-unavailable` or `bad-config`. */
export async function openStore(config: StoreConfig): Promise<Store> {
  if (config.kind === 'folder') return openFolderStore(config.path);
  // Loading its client takes a program a tenth of a second at its start.
  const { openS3Store } = await import('./s3-store.ts');
  return openS3Store(config);
}
