/** Programs of this machine that a peer or a baseline needs. */
import { spawnSync } from 'node:child_process';

export function installed(program: string, flag: string): boolean {
  return spawnSync(program, [flag], { stdio: 'ignore' }).error === undefined;
}
