/** Where what lies in the folder of an attempt. */
import { join } from 'node:path';
import { SCRIPT_NAME } from '../src/job/names.ts';

export interface RunPaths {
  /** The script's working directory and HOME. */
  home: string;
  tmp: string;
  scriptPath: string;
  /** Outside of what the script is given, as all that follow. */
  spoolPath: string;
  /** What it is an attempt of. */
  notePath: string;
  /** Which control groups were made for it. */
  cgroupsPath: string;
}

export function pathsIn(root: string): RunPaths {
  const home = join(root, 'home');
  return {
    home,
    tmp: join(root, 'tmp'),
    scriptPath: join(home, SCRIPT_NAME),
    spoolPath: join(root, 'log.ndjson'),
    notePath: join(root, 'attempt.json'),
    cgroupsPath: join(root, 'cgroups.json'),
  };
}
