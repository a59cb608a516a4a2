/** The machine's monotonic clock, the same for all its processes; performance.now() begins with a process. Milliseconds. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
