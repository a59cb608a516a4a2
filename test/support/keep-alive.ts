/** What the kernel does about a connection on which nothing comes (proc(5), /proc/net/tcp). */
import { readFileSync } from 'node:fs';

const ESTABLISHED = '01';
const KEEP_ALIVE_TIMER = '02';

/** Whether it will ask the other end of a connection over IPv4 whether that still lives; the ports as this end sees them. */
export function asksWhetherPeerLives(localPort: number, remotePort: number): boolean {
  const rows = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((row) => row.trim().split(/\s+/));
  const row = rows.find(
    ([, local, remote, state]) => state === ESTABLISHED && portOf(local) === localPort && portOf(remote) === remotePort,
  );
  return row?.[5]?.split(':')[0] === KEEP_ALIVE_TIMER;
}

function portOf(address = ''): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
}
