/** A server that says what a test wants said, for what a real one does rarely: breaking off, lying, sending elsewhere. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Asked {
  method: string;
  /** Below `/api/v1/`, as it was sent. */
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface ProtocolServer {
  url: string;
  port: number;
  asked: Asked[];
  /** Drops every connection where it is. */
  stop(): Promise<void>;
}

export async function startProtocolServer(reply: (asked: Asked, response: ServerResponse) => void, port = 0): Promise<ProtocolServer> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const url = new URL(request.url ?? '/', 'http://server');
      const path = url.pathname.replace(/^\/api\/v1\//, '');
      const one = { method: request.method ?? '', path, query: url.searchParams, headers: request.headers, body: Buffer.concat(chunks) };
      asked.push(one);
      reply(one, response);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const bound = (server.address() as AddressInfo).port;
  return {
    url: `http://127.0.0.1:${bound}`,
    port: bound,
    asked,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function json(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

export function problem(response: ServerResponse, status: number, code: string, detail: string): void {
  response.writeHead(status, { 'content-type': 'application/problem+json' });
  response.end(JSON.stringify({ type: 'about:blank', title: code, status, code, detail }));
}

export const RUN_ID = '0a1b2c3d-0000-4000-8000-000000000001';

/** A run as the contract has it; running, unless the test says otherwise. */
export function runOf(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    id: RUN_ID,
    job: null,
    platform: 'debian-12',
    state: 'running',
    outcome: null,
    exitCode: null,
    signal: null,
    reason: null,
    attempt: 1,
    attempts: [],
    trigger: 'run',
    cancelRequestedAt: null,
    createdAt: '2026-11-24T06:00:00.000Z',
    startedAt: '2026-11-24T06:00:01.000Z',
    finishedAt: null,
    worker: 'w1',
    labels: {},
    log: { lines: 0, bytes: 0, sha256: '', truncated: false, missing: 0 },
    artifactCount: 0,
    ...changes,
  };
}

export function finishedRun(outcome: string, changes: Record<string, unknown> = {}): Record<string, unknown> {
  return runOf({
    state: 'finished',
    outcome,
    exitCode: outcome === 'succeeded' ? 0 : null,
    finishedAt: '2026-11-24T06:00:09.000Z',
    ...changes,
  });
}

export function logLine(line: number, text: string, changes: Record<string, unknown> = {}): string {
  return `${JSON.stringify({ line, atMs: line, source: 'stdout', text, ...changes })}\n`;
}

export function logEnd(lines: number, outcome = 'succeeded'): string {
  return `${JSON.stringify({ end: { lines, bytes: 0, sha256: '', outcome } })}\n`;
}
