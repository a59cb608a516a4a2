/** A proxy in front of a TCP server that does to connections what bad networks do. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/**
 * `refuse`: nobody listens. `swallow`: what is sent in either direction vanishes, and connections that were there meanwhile
 * stay dead, as behind a firewall that forgot them; nothing is closed. A number delays each chunk by so many milliseconds.
 */
export type ProxyMode = 'pass' | 'refuse' | 'swallow' | number;

export interface TcpProxy {
  port: number;
  set(mode: ProxyMode): Promise<void>;
  /** Breaks every connection. */
  reset(): void;
  stop(): Promise<void>;
}

interface Pair {
  client: Socket;
  server: Socket | null;
  dead: boolean;
}

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let mode: ProxyMode = 'pass';
  const accept = (client: Socket): void => {
    const pair: Pair = { client, server: null, dead: mode === 'swallow' };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      pair.server?.destroy();
    };
    client.on('error', end).on('close', end);
    if (pair.dead) return void client.resume();
    pair.server = connect(targetPort, '127.0.0.1');
    pair.server
      .setNoDelay(true)
      .on('error', end)
      .on('close', () => (pair.dead ? undefined : end()));
    client.setNoDelay(true);
    const pass = (to: Socket) => {
      // A delay that has become shorter must not let a chunk pass one before it.
      let last: Promise<void> = Promise.resolve();
      let waiting = 0;
      const write = (chunk: Buffer): void => void (pair.dead || to.destroyed || to.write(chunk));
      return (chunk: Buffer): void => {
        if (typeof mode !== 'number' && waiting === 0) {
          write(chunk);
          return;
        }
        waiting += 1;
        const due = new Promise((resolve) => setTimeout(resolve, typeof mode === 'number' ? mode : 0));
        last = Promise.all([last, due]).then(() => {
          waiting -= 1;
          write(chunk);
        });
      };
    };
    client.on('data', pass(pair.server));
    pair.server.on('data', pass(client));
  };
  let server: Server | null = createServer(accept);
  const listen = (on: Server, port: number): Promise<void> =>
    new Promise((resolve, reject) => on.once('error', reject).listen(port, '127.0.0.1', resolve));
  await listen(server, 0);
  const { port } = server.address() as AddressInfo;
  const reset = (): void => {
    for (const { client, server: other } of pairs) {
      client.resetAndDestroy();
      other?.resetAndDestroy();
    }
    pairs.clear();
  };
  const close = async (): Promise<void> => {
    const closing = server;
    server = null;
    if (closing === null) return;
    const closed = new Promise((resolve) => closing.close(resolve));
    reset();
    await closed;
  };
  return {
    port,
    reset,
    set: async (next) => {
      mode = next;
      if (next === 'swallow') for (const pair of pairs) pair.dead = true;
      if (next === 'refuse') return close();
      if (server === null) {
        server = createServer(accept);
        await listen(server, port);
      }
    },
    stop: close,
  };
}
