/** What scripts are not to see of the machine, where the sandbox can hide it: all that is builder's own. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { clientConfigHome, type WorkerConfig } from '../src/service/config.ts';

/** The runs of others, the store, the folder of Redis's socket (with `up` the whole data folder, tokens included), the user's own token. */
/** And the files that its secrets were read from. */
export function hiddenFolders(config: WorkerConfig): string[] {
  const { workDir, store, redisUrl } = config;
  const folders = [
    workDir,
    join(clientConfigHome(), 'builder'),
    ...config.secretFiles,
    ...(store.kind === 'folder' ? [store.path] : []),
    ...(redisUrl.startsWith('unix:') ? [dirname(resolve(redisUrl.slice('unix:'.length)))] : []),
  ];
  return folders.filter((folder) => folder !== '/' && existsSync(folder));
}
