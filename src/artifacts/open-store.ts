/** The store that a configuration names. */
import type { StoreConfig } from '../service/config.ts';
import { openFolderStore } from './folder-store.ts';
import { openS3Store } from './s3-store.ts';
import type { Store } from './store.ts';

/** Makes the folder or bucket where it is missing; throws BuilderError `store-unavailable` or `bad-config`. */
export async function openStore(config: StoreConfig): Promise<Store> {
  return config.kind === 'folder' ? openFolderStore(config.path) : openS3Store(config);
}
