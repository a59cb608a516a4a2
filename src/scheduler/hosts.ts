/** Which `Host` headers are served: a page that rebinds its own name to this machine is refused. */
import { isIP } from 'node:net';
import { BuilderError } from '../service/errors.ts';

/** Throws `host-refused` unless the header names this machine (loopback, an address) or a host that is configured. */
export function checkHost(header: string | undefined, served: string[]): void {
  const name = nameOf(header ?? '');
  const known = name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0 || served.includes(name);
  if (name === '' || !known) {
    throw new BuilderError('host-refused', `expected a host that is served (BUILDER_ALLOWED_HOSTS), got ${JSON.stringify(header ?? '')}`);
  }
}

/** Without port and brackets, in lower case. */
function nameOf(header: string): string {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/i.exec(header);
  return (match?.[1] ?? match?.[2] ?? '').toLowerCase();
}
