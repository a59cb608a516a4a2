/** Telling a process from another that got its number later: by the boot of the machine and the moment it started. */
import { readFile } from 'node:fs/promises';

/** `PID START BOOT`, as isAlive reads it; null for a process that is not there. */
export async function identityOf(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Field 22 of proc(5), counted behind the name, which may hold anything.
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? null : `${pid} ${fields[18]} ${await bootOf()}`;
  } catch {
    return null;
  }
}

export async function isAlive(identity: string): Promise<boolean> {
  return (await identityOf(Number(identity.split(' ')[0]))) === identity;
}

/** START counts from the boot: after another one a process may have the number and the moment of a dead one. */
async function bootOf(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown')).trim();
}
