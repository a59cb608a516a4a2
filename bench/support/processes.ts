/** What a process has used, from /proc. */
import { readFileSync } from 'node:fs';

/** Of a core, in clock ticks of 10 ms. */
const TICK_MS = 10;

/** Processor time (ms) of a process so far, in user and system mode. */
export function processorMs(pid: number): number {
  const fields = (readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1] ?? '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
