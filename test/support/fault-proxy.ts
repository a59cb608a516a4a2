/** A proxy in front of an HTTP server that does to single requests what bad networks and busy servers do. */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * `refuse`: an answer of this status instead of the server's. `reset`: the connection breaks before the server hears of
 * it. `lose-answer`: the server does its work, then the connection breaks. `cut-answer`: it breaks half-way through the answer.
 */
export type Fault = { refuse: number; code: string } | 'reset' | 'lose-answer' | 'cut-answer';

export interface FaultProxy {
  endpoint: string;
  /** What to do to a request, `PUT /bucket/key?query`; undefined passes it on. Stays until the next call. */
  set(faultOf: (request: string) => Fault | undefined): void;
  /** Sets the clock that the server seems to have. */
  shiftClock(ms: number): void;
  stop(): Promise<void>;
}

export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const agent = new Agent({ keepAlive: true });
  let faultOf: (request: string) => Fault | undefined = () => undefined;
  let clockMs = 0;
  const server = createServer((incoming, outgoing) => {
    const fault = faultOf(`${incoming.method} ${incoming.url}`);
    if (fault === 'reset') incoming.socket.destroy();
    else if (typeof fault === 'object') refuse({ incoming, outgoing, fault });
    else forward({ incoming, outgoing, fault });
  });
  const forward = ({ incoming, outgoing, fault }: Exchange): void => {
    const options = { method: incoming.method, path: incoming.url, headers: incoming.headers, agent };
    const sent = request(target, options as object, (answer) => {
      const date = new Date(Date.now() + clockMs).toUTCString();
      if (fault === undefined) {
        outgoing.writeHead(answer.statusCode ?? 502, { ...answer.headers, date });
        answer.pipe(outgoing);
      } else if (fault === 'lose-answer') {
        answer.resume().on('end', () => incoming.socket.destroy());
      } else {
        cut({ answer, incoming, outgoing });
      }
    });
    sent.on('error', () => incoming.socket.destroy());
    outgoing.on('close', () => sent.destroy());
    incoming.pipe(sent);
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    set: (next) => {
      faultOf = next;
    },
    shiftClock: (ms) => {
      clockMs = ms;
    },
    stop: async () => {
      server.closeAllConnections();
      agent.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The same fault for the first requests that match, then none. */
export function firstTimes(times: number, matching: RegExp, fault: Fault): (request: string) => Fault | undefined {
  let left = times;
  return (line) => (matching.test(line) && left-- > 0 ? fault : undefined);
}

interface Exchange {
  incoming: IncomingMessage;
  outgoing: ServerResponse;
  fault: Fault | undefined;
}

function refuse({ incoming, outgoing, fault }: Omit<Exchange, 'fault'> & { fault: { refuse: number; code: string } }): void {
  incoming.resume().on('end', () => {
    outgoing.writeHead(fault.refuse, { 'content-type': 'application/xml' });
    outgoing.end(`<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>as the test wants it</Message></Error>`);
  });
}

function cut({ answer, incoming, outgoing }: Omit<Exchange, 'fault'> & { answer: IncomingMessage }): void {
  outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
  answer.once('data', (chunk: Buffer) => {
    outgoing.write(chunk.subarray(0, Math.floor(chunk.length / 2)), () => incoming.socket.destroy());
  });
}
