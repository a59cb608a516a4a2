/** Telling a process from another that got its number later: by the moment it started. */
import { readFile } from 'node:fs/promises';

/** `PID START`, as isAlive reads it; null for a process that is not there. */
export async function identityOf(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Field 22 of proc(5), counted behind the name, which may hold anything.
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? null : `${pid} ${fields[18]}`;
  } catch {
    return null;
  }
}

export async function isAlive(identity: string): Promise<boolean> {
  return (await identityOf(Number(identity.split(' ')[0]))) === identity;
}
