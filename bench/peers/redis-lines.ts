/** Limits of a log that Redis carries: XADD to XREAD BLOCK, and one pipelined XADD per line. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { connect } from '../../src/redis/connection.ts';
import { startRedis } from '../../test/support/redis.ts';
import { type Contender, type Values, Void } from '../figure.ts';
import { type Command, ended } from '../support/spawning.ts';

const WORKER = fileURLToPath(new URL('redis-lines-worker.js', import.meta.url));

export interface LinesInTime {
  streams: number;
  /** Of each stream. */
  lines: number;
  perSecond: number;
}

/** Milliseconds from each line's own moment to when a reader of all streams had it. */
export function xaddToXread(o: LinesInTime, valuesOf: (delaysMs: number[]) => Values): Contender {
  return {
    name: 'XADD to XREAD BLOCK',
    kind: 'limit',
    setting: `${o.streams} stream(s), ${o.perSecond} lines/s each, one XADD a line by one process, read by another`,
    open: async () => {
      const redis = await startRedis();
      return {
        measure: async () => {
          const reader = connect(redis.url, 'patient');
          await reader.flushall();
          const writer = fork(WORKER, [redis.url, o.streams, o.lines, o.perSecond].map(String));
          await once(writer, 'message');
          writer.send('go');
          const delaysMs = await readAll(reader, o);
          reader.disconnect();
          if (writer.exitCode === null) await once(writer, 'exit');
          return valuesOf(delaysMs);
        },
        close: () => redis.stop(),
      };
    },
  };
}

async function readAll(reader: ReturnType<typeof connect>, { streams, lines }: LinesInTime): Promise<number[]> {
  const positions = new Map(Array.from({ length: streams }, (_, index) => [`lines-${index}`, '0-0']));
  const delaysMs: number[] = [];
  while (delaysMs.length < streams * lines) {
    const answer = await reader.xread('COUNT', 1_000, 'BLOCK', 5_000, 'STREAMS', ...positions.keys(), ...positions.values());
    const nowMs = Number(process.hrtime.bigint()) / 1e6;
    if (answer === null) throw new Void(`expected ${streams * lines} lines, got ${delaysMs.length}`);
    for (const [key, entries] of answer as [string, [string, string[]][]][]) {
      positions.set(key, entries.at(-1)?.[0] ?? '0-0');
      for (const [, fields] of entries) delaysMs.push(nowMs - Number.parseFloat(fields[1] ?? '') * 1000);
    }
  }
  return delaysMs;
}

const LINES_A_FLUSH = 1_000;

interface Flood {
  command: Command;
  lines: number;
  /** Of all that the command writes. */
  sha256: string;
  /** Pipelines on their way at a time. */
  flushes: number;
}

/** What a child writes goes to a stream line by line; nobody reads it. */
export function pipelinedXadd(o: Flood): Contender {
  return {
    name: `one XADD a line, ${o.flushes} flush(es) at a time`,
    kind: 'peer',
    setting: `ioredis pipelines of ${LINES_A_FLUSH}, ${o.flushes} on their way at a time, lines split from the pipe's chunks; no archive, no reader`,
    open: async () => {
      const redis = await startRedis();
      const connection = connect(redis.url, 'patient');
      return {
        measure: async () => {
          await connection.flushall();
          const begunAtMs = performance.now();
          const child = spawn(o.command[0], o.command.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] });
          const code = ended(child);
          await addLines(connection, child, o.flushes);
          const tookMs = performance.now() - begunAtMs;
          if ((await code) !== 0) throw new Void(`expected exit code 0 of what writes the lines, got ${await code}`);
          await checkLines(connection, o);
          return { rate: (o.lines * 1000) / tookMs };
        },
        close: async () => {
          connection.disconnect();
          await redis.stop();
        },
      };
    },
  };
}

async function addLines(connection: ReturnType<typeof connect>, child: ChildProcess, flushes: number): Promise<void> {
  if (child.stdout === null) throw new Error('expected a pipe');
  let pipeline = connection.pipeline();
  const flushing: Promise<unknown>[] = [];
  const flush = async (most: number): Promise<void> => {
    flushing.push(pipeline.exec());
    pipeline = connection.pipeline();
    while (flushing.length > most) await flushing.shift();
  };
  let rest = '';
  for await (const chunk of child.stdout) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      pipeline.xadd('log', '*', 'd', line);
      if (pipeline.length >= LINES_A_FLUSH) await flush(flushes - 1);
    }
  }
  await flush(0);
}

const LINES_A_LOOK = 10_000;

async function checkLines(connection: ReturnType<typeof connect>, { lines, sha256 }: Flood): Promise<void> {
  const hash = createHash('sha256');
  let count = 0;
  for (let from = '-'; ; ) {
    const entries = await connection.xrange('log', from, '+', 'COUNT', LINES_A_LOOK);
    for (const [, fields] of entries) hash.update(`${fields[1]}\n`);
    count += entries.length;
    if (entries.length < LINES_A_LOOK) break;
    from = `(${entries.at(-1)?.[0]}`;
  }
  if (count !== lines || hash.digest('hex') !== sha256) throw new Void(`expected ${lines} lines as they were written, got ${count}`);
}
