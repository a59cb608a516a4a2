/** A proxy in front of an HTTP server that does to single requests what bad networks and busy servers do. */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Transform } from 'node:stream';

/**
 * `refuse`: an answer of this status instead of the server's. `trickleMs`: each piece of the request takes so long. `reset`: the
 * connection breaks before the server hears of it. `cut-request`: it breaks half-way through the request. `lose-answer`: the server
 * does its work, then the connection breaks. `cut-answer`: it breaks half-way through the answer.
 */
export type Fault = Refusal | { trickleMs: number } | 'reset' | 'cut-request' | 'lose-answer' | 'cut-answer';

interface Refusal {
  refuse: number;
  code: string;
}

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
  const dateNow = (): string => new Date(Date.now() + clockMs).toUTCString();
  const server = createServer((incoming, outgoing) => {
    const fault = faultOf(`${incoming.method} ${incoming.url}`);
    if (fault === 'reset') incoming.socket.destroy();
    else if (typeof fault === 'object' && 'refuse' in fault) refuse({ incoming, outgoing, fault, date: dateNow() });
    else forward({ incoming, outgoing, fault });
  });
  const forward = ({ incoming, outgoing, fault }: Exchange): void => {
    const options = { method: incoming.method, path: incoming.url, headers: incoming.headers, agent };
    const sent = request(target, options as object, (answer) => {
      if (fault === 'lose-answer') {
        answer.resume().on('end', () => incoming.socket.destroy());
      } else if (fault === 'cut-answer') {
        cut({ answer, incoming, outgoing });
      } else {
        outgoing.writeHead(answer.statusCode ?? 502, { ...answer.headers, date: dateNow() });
        answer.pipe(outgoing);
      }
    });
    sent.on('error', () => incoming.socket.destroy());
    outgoing.on('close', () => sent.destroy());
    if (typeof fault === 'object') incoming.pipe(trickle(fault.trickleMs)).pipe(sent);
    else if (fault === 'cut-request') incoming.pipe(half(incoming)).pipe(sent);
    else incoming.pipe(sent);
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
  fault: Exclude<Fault, Refusal> | undefined;
}

function refuse({ incoming, outgoing, fault, date }: Omit<Exchange, 'fault'> & { fault: Refusal; date: string }): void {
  incoming.resume().on('end', () => {
    outgoing.writeHead(fault.refuse, { 'content-type': 'application/xml', date });
    outgoing.end(`<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>as the test wants it</Message></Error>`);
  });
}

function cut({ answer, incoming, outgoing }: Omit<Exchange, 'fault'> & { answer: IncomingMessage }): void {
  outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
  answer.once('data', (chunk: Buffer) => {
    outgoing.write(chunk.subarray(0, Math.floor(chunk.length / 2)), () => incoming.socket.destroy());
  });
}

function trickle(pieceMs: number): Transform {
  return new Transform({ transform: (chunk, _, done) => void setTimeout(() => done(null, chunk), pieceMs) });
}

/** Passes half of a request's body, then breaks its connection. */
function half(incoming: IncomingMessage): Transform {
  let left = Number(incoming.headers['content-length'] ?? 0) / 2;
  return new Transform({
    transform: (chunk: Buffer, _, done) => {
      left -= chunk.length;
      if (left > 0) done(null, chunk);
      else incoming.socket.destroy();
    },
  });
}
