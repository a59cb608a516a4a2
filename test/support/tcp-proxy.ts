/** A proxy in front of a TCP server that does to connections what bad networks do. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/**
 * `refuse`: nobody listens. `swallow`: what is sent in either direction vanishes, and connections that were there meanwhile
 * stay dead, as behind a firewall that forgot them; nothing is closed. A number delays each chunk by so many milliseconds.
 */
export type ProxyMode = 'pass' | 'refuse' | 'swallow' | number;

/** A place in what is said: the first request that holds a text, before the server has it, or when it has and its answer is on its way. */
export interface Trip {
  text: string;
  side: 'before' | 'after';
  /** What happens there; the request (or the answer) is held back meanwhile, then goes on or vanishes. */
  act: () => Promise<'pass' | 'drop'>;
}

export interface TcpProxy {
  port: number;
  set(mode: ProxyMode): Promise<void>;
  /** Does something once, at that place; rejects with what `act` throws. Requests before that pass as ever. */
  trip(trip: Trip): Promise<void>;
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
  const wire = createTripWire();
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
    const pass = (to: Socket, from: Side) => {
      // A delay that has become shorter must not let a chunk pass one before it.
      let last: Promise<void> = Promise.resolve();
      let waiting = 0;
      const write = (chunk: Buffer): void => void (pair.dead || to.destroyed || to.write(chunk));
      return (chunk: Buffer): void => {
        const held = wire.hold(pair, from, chunk);
        if (typeof mode !== 'number' && waiting === 0 && held === null) {
          write(chunk);
          return;
        }
        waiting += 1;
        const due = new Promise((resolve) => setTimeout(resolve, typeof mode === 'number' ? mode : 0));
        last = Promise.all([last, due, held]).then(([, , fate]) => {
          waiting -= 1;
          if (fate === 'drop') pair.dead = true;
          write(chunk);
        });
      };
    };
    client.on('data', pass(pair.server, 'client'));
    pair.server.on('data', pass(client, 'server'));
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
    trip: wire.set,
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

type Side = 'client' | 'server';
type Fate = 'pass' | 'drop';

/** Holds back one chunk of one connection, where it was told to. */
function createTripWire(): { set(trip: Trip): Promise<void>; hold(pair: Pair, from: Side, chunk: Buffer): Promise<Fate> | null } {
  let armed: { trip: Trip; done(fate: Promise<Fate>): void } | null = null;
  let answer: { pair: Pair; fate: Promise<Fate> } | null = null;
  return {
    set: (trip) =>
      new Promise<void>((resolve, reject) => {
        armed = { trip, done: (fate) => void fate.then(() => resolve(), reject) };
      }),
    hold: (pair, from, chunk) => {
      if (from === 'server') {
        if (answer?.pair !== pair) return null;
        const { fate } = answer;
        answer = null;
        return fate;
      }
      if (armed === null || !chunk.includes(armed.trip.text)) return null;
      const { trip, done } = armed;
      armed = null;
      const fate = trip.act();
      done(fate);
      if (trip.side === 'before') return fate;
      answer = { pair, fate };
      return null;
    },
  };
}
