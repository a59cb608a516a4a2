/** What a process has used, from /proc. */
import { readdirSync, readFileSync } from 'node:fs';

/** Processor time (ms) of the threads that a process has now, in user and system mode. */
export function processorMs(pid: number): number {
  const threads = `/proc/${pid}/task`;
  return readdirSync(threads).reduce(
    (sum, thread) => sum + Number(readFileSync(`${threads}/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e6,
    0,
  );
}
