/** Where what lies in the folder of an attempt. */
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

/** `root`: without a slash at its end. */
export function pathsIn(root: string): RunPaths {
  return {
    home: `${root}/home`,
    tmp: `${root}/tmp`,
    scriptPath: `${root}/home/${SCRIPT_NAME}`,
    spoolPath: `${root}/log.ndjson`,
    notePath: `${root}/attempt.json`,
    cgroupsPath: `${root}/cgroups.json`,
  };
}
