/** Follows the log of a run over HTTP as JSON lines, and keeps what came and when; what it says is looked at afterwards. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { type LogEnd, type LogLine, parseLogEntry, textOf } from '../../src/job/log-entry.ts';
import { Void } from '../figure.ts';
import { monotonicMs } from './monotonic.ts';
import type { BenchPool } from './pool.ts';

export interface Observed {
  /** Without the empty lines that only say that the connection stands. */
  bytes: number;
  chunks: Buffer[];
  /** When each of them came, by monotonicMs. */
  atMs: number[];
}

export interface Observing {
  /** Whether what came is kept; true unless said otherwise. */
  keep?: boolean;
  /** Where it is kept, while there is room: a log that is kept as it comes keeps the garbage collector of the observer busy. */
  room?: Buffer;
}

/** Resolves when the server has ended the answer. */
export function observeRun(
  { url, token }: BenchPool,
  run: string,
  { keep = true, room = Buffer.alloc(0) }: Observing = {},
): Promise<Observed> {
  const headers = { authorization: `Bearer ${token}`, accept: 'application/x-ndjson' };
  return new Promise((resolve, reject) => {
    const request = get(`${url}/api/v1/runs/${run}/log?follow=1`, { headers, agent: false }, (answer) => {
      if (answer.statusCode !== 200) reject(new Error(`the log of ${run}: ${answer.statusCode}`));
      const observed: Observed = { bytes: 0, chunks: [], atMs: [] };
      let afterNewline = true;
      let filled = 0;
      const kept = (chunk: Buffer): Buffer => {
        if (filled + chunk.length > room.length) return chunk;
        const place = room.subarray(filled, filled + chunk.length);
        place.set(chunk);
        filled += chunk.length;
        return place;
      };
      answer.on('data', (chunk: Buffer) => {
        observed.bytes += chunk.length - emptyLines(chunk, afterNewline);
        afterNewline = chunk.at(-1) === NEWLINE;
        if (!keep) return;
        observed.atMs.push(monotonicMs());
        observed.chunks.push(kept(chunk));
      });
      answer.on('error', reject);
      answer.on('end', () => resolve(observed));
    });
    request.on('error', reject);
  });
}

const NEWLINE = 0x0a;

function emptyLines(chunk: Buffer, afterNewline: boolean): number {
  let count = afterNewline && chunk[0] === NEWLINE ? 1 : 0;
  for (let at = chunk.indexOf('\n\n'); at >= 0; at = chunk.indexOf('\n\n', at + 1)) count += 1;
  return count;
}

/** Each line with the moment at which its end came. Throws Void unless the end record is the last. */
export function linesOf({ chunks, atMs }: Pick<Observed, 'chunks' | 'atMs'>): { line: LogLine; atMs: number }[] {
  const lines: { line: LogLine; atMs: number }[] = [];
  let ended = false;
  let rest = '';
  for (const [index, chunk] of chunks.entries()) {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop() ?? '';
    for (const json of parts) {
      if (json === '') continue;
      const entry = parseLogEntry(json);
      ended = 'end' in entry;
      if ('line' in entry) lines.push({ line: entry, atMs: atMs[index] as number });
    }
  }
  if (!ended || rest !== '') throw new Void('expected the end of the log, got less');
  return lines;
}

/** Throws Void unless what was observed is the text of that digest, and so is what the archive holds. */
export function checkText(pool: BenchPool, run: string, o: { observed: Observed; sha256: string; lines: number }): void {
  const observed = Buffer.concat(o.observed.chunks);
  const end = observed.lastIndexOf('{"end":');
  const record = parseLogEntry(observed.toString('utf8', end).trim()) as LogEnd;
  const told = `${record.end?.lines} ${record.end?.sha256}`;
  if (told !== `${o.lines} ${o.sha256}`) throw new Void(`expected a log of ${o.lines} ${o.sha256}, got ${told}`);
  const lines = observed.subarray(0, end);
  const sha256 = textDigest(lines);
  if (sha256 !== o.sha256) throw new Void(`expected ${o.sha256} at the observer, got ${sha256}`);
  if (!lines.equals(archiveOf(pool.storePath, run))) throw new Void('expected the archive to hold what was observed, got something else');
}

/** A piece at a time: no text is longer than a string may be. */
function textDigest(ndjson: Buffer): string {
  const hash = createHash('sha256');
  for (let start = 0; start < ndjson.length; ) {
    const end = ndjson.lastIndexOf('\n', Math.min(start + PIECE_BYTES, ndjson.length - 1)) + 1;
    const records = ndjson.toString('utf8', start, end).split('\n').filter(isRecord);
    hash.update(records.map((json) => textOf(JSON.parse(json) as LogLine)).join(''));
    start = end;
  }
  return hash.digest('hex');
}

const PIECE_BYTES = 1024 * 1024;

/** An empty line only says that the connection stands. */
function isRecord(json: string): boolean {
  return json !== '';
}

function archiveOf(storePath: string, run: string): Buffer {
  const folder = `${storePath}/runs/${run}`;
  const pieces = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ndjson'));
  return Buffer.concat(pieces.toSorted().map((name) => readFileSync(`${folder}/${name}`)));
}
