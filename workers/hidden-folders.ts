/** What scripts are not to see of the machine, where the sandbox can hide it: all that is builder's own. */
import { dirname, join, resolve } from 'node:path';
import { clientConfigHome, type WorkerConfig } from '../src/service/config.ts';

/**
 * The runs of others, the store, the folder of Redis's socket (with `up` the whole data folder, tokens included), the user's own token,
 * and the files that the worker's secrets were read from, those of Redis and S3 too.
 */
export function hiddenFolders(config: WorkerConfig): string[] {
  const { workDir, store, redisUrl } = config;
  // Those that are not there yet as well: a sandbox looks at each start.
  const folders = [
    workDir,
    join(clientConfigHome(), 'builder'),
    ...config.secretFiles,
    ...(store.kind === 'folder' ? [store.path] : []),
    ...(redisUrl.startsWith('unix:') ? [dirname(resolve(redisUrl.slice('unix:'.length)))] : []),
  ];
  return folders.filter((folder) => folder !== '/');
}
