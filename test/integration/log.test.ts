import { createHash, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openFolderStore } from '../../src/artifacts/folder-store.ts';
import type { Store } from '../../src/artifacts/store.ts';
import { limits } from '../../src/job/limits.ts';
import { type LogEntry, type LogLine, parseLogEntry, textOf } from '../../src/job/log-entry.ts';
import type { RunResult } from '../../src/job/run.ts';
import { archiveChunk } from '../../src/logs/archive.ts';
import { type AttemptState, readLog } from '../../src/logs/reader.ts';
import { sealLog } from '../../src/logs/seal.ts';
import { appendChunks, type LogId, lastLine, trimBefore } from '../../src/logs/stream.ts';
import { createWakeUps, type WakeUps } from '../../src/logs/wake-ups.ts';
import { connect, type Redis } from '../../src/redis/connection.ts';
import { keys, shardOf } from '../../src/redis/keys.ts';
import { wakeFollowers } from '../../src/redis/wake.ts';
import { aborted } from '../../src/service/lifecycle.ts';
import { createLogger } from '../../src/service/logger.ts';
import { createLineSplitter } from '../../workers/line-splitter.ts';
import type { Cap } from '../../workers/log-cap.ts';
import { startPublisher } from '../../workers/log-publisher.ts';
import { openSpool } from '../../workers/log-spool.ts';
import { memoryHeld } from '../support/heap.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const logger = createLogger('test', 'silent');
let redis: TestRedis;
let connection: Redis;
let temp: TempFolder;
let store: Store;
let wakeUps: WakeUps;

beforeAll(async () => {
  temp = tempFolder();
  redis = await startRedis();
  connection = connect(redis.url, 'patient');
  store = await openFolderStore(`${temp.path}/store`);
  wakeUps = createWakeUps(connect(redis.url, 'patient'), connection);
});

afterAll(async () => {
  await wakeUps.close();
  connection.disconnect();
  await store.close();
  await redis.stop();
  temp.remove();
});

interface Writer {
  log: LogId;
  push(source: 'stdout' | 'stderr', text: string | Buffer): Promise<void>;
  note(text: string): Promise<void>;
  finish(): Promise<RunResult>;
}

const states = new Map<string, AttemptState>();
const endOf = async (log: LogId): Promise<AttemptState> => states.get(log.run) ?? 'open';

/** The worker's side of one attempt's log, as workers/attempt-log.ts puts it together. */
async function openLog(cap?: Cap, into: Store = store): Promise<Writer> {
  const log: LogId = { run: randomUUID(), attempt: 1, claim: 'c' };
  const spool = await openSpool(`${temp.path}/${log.run}.ndjson`);
  const splitter = createLineSplitter({
    startedAtMs: performance.now(),
    write: (ndjson, lines) => spool.append(ndjson, lines),
    ...(cap === undefined ? {} : { cap }),
  });
  const publisher = startPublisher({ redis: connection, store: into, spool, log, logger });
  return {
    log,
    push: (source, text) => splitter.push(source, Buffer.from(text)),
    note: splitter.note,
    finish: async () => {
      const digest = await splitter.end();
      await publisher.finish(new AbortController().signal);
      await publisher.stop();
      await spool.remove();
      const result: RunResult = {
        ...{ outcome: 'succeeded', exitCode: 0, signal: null, reason: null, attempt: 1, claim: 'c', attemptsMade: 0, artifactCount: 0 },
        finishedAt: new Date().toISOString(),
        log: { ...digest, missing: 0 },
      };
      states.set(log.run, result);
      await wakeFollowers(connection, log.run);
      return result;
    },
  };
}

async function read(log: LogId, given: { from?: number; follow?: boolean } = {}): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  const source = { redis: connection, store, wakeUps, endOf };
  const signal = new AbortController().signal;
  for await (const chunk of readLog(source, { log, from: given.from ?? 1, follow: given.follow ?? false, signal })) {
    for (const line of chunk.toString().trimEnd().split('\n')) entries.push(parseLogEntry(line));
  }
  return entries;
}

const linesOf = (entries: LogEntry[]): LogLine[] => entries.filter((entry): entry is LogLine => 'line' in entry);
const textsOf = (entries: LogEntry[]): string => linesOf(entries).map(textOf).join('');
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

describe('a log', () => {
  it('tells a follower that it is quiet once it has been read, not while the store is awaited', async () => {
    const log: LogId = { run: randomUUID(), attempt: 1, claim: 'c' };
    const lineOf = (line: number): Buffer => Buffer.from(`{"line":${line},"atMs":0,"source":"stdout","text":"x"}\n`);
    await appendChunks(connection, log, [{ firstLine: 2, lines: 1, ndjson: lineOf(2) }], 2);
    await archiveChunk(store, log, { firstLine: 1, lines: 1, ndjson: lineOf(1) });
    const events: string[] = [];
    const [over, held] = [new AbortController(), new AbortController()];
    const slow: Store = {
      ...store,
      getDocument: async (key) => {
        events.push('asked');
        await aborted(held.signal);
        return store.getDocument(key);
      },
    };
    const onQuiet = (isQuiet: boolean): void => void (isQuiet && events.push('quiet'));
    const source = { redis: connection, store: slow, wakeUps, endOf };
    const reading = (async () => {
      for await (const chunk of readLog(source, { log, from: 1, follow: true, signal: over.signal, onQuiet })) events.push(String(chunk));
    })();
    await until(() => events.length > 0, 'the store to be asked');
    held.abort();
    await until(() => events.includes('quiet'), 'all of the log, and a word that it is quiet');
    expect(events.slice(0, 4)).toEqual(['asked', String(lineOf(1)), String(lineOf(2)), 'quiet']);
    over.abort();
    await reading;
  });

  it('has numbered lines with time and source, and ends with what it was in all', async () => {
    const writer = await openLog();
    await writer.push('stdout', 'one\ntw');
    await writer.push('stderr', 'oh\n');
    await writer.push('stdout', 'o\nno newline');
    await writer.note('a word of its own');
    const { log: digest } = await writer.finish();
    const entries = await read(writer.log);
    expect(linesOf(entries).map(({ line, source, text }) => [line, source, text])).toEqual([
      [1, 'stdout', 'one'],
      [2, 'stderr', 'oh'],
      [3, 'stdout', 'two'],
      [4, 'builder', 'builder: a word of its own'],
      [5, 'stdout', 'no newline'],
    ]);
    expect(entries.at(-1)).toEqual({ end: { lines: 5, bytes: digest.bytes, sha256: sha256(textsOf(entries)), outcome: 'succeeded' } });
  });

  it('keeps carriage returns, NUL, colour and what is not UTF-8 without harm to its neighbours', async () => {
    const writer = await openLog();
    await writer.push('stdout', Buffer.from('10%\r20%\rdone\na\0b\n\x1b[31mred\x1b[0m\n'));
    await writer.push('stdout', Buffer.from([0xff, 0xfe, 0x0a, 0xc3]));
    await writer.push('stdout', Buffer.from([0xa4, 0x0a]));
    await writer.finish();
    const entries = await read(writer.log);
    expect(linesOf(entries).map(({ text }) => text)).toEqual(['10%\r20%\rdone', 'a\0b', '\x1b[31mred\x1b[0m', '\ufffd\ufffd', 'ä']);
  });

  it('keeps a line of five megabytes in pieces that join to it', async () => {
    const writer = await openLog();
    const long = `${'ä'.repeat(2_621_440)}x`;
    await writer.push('stdout', `before\n${long}\nafter\n`);
    await writer.finish();
    const entries = await read(writer.log);
    expect(textsOf(entries)).toBe(`before\n${long}\nafter\n`);
    expect(linesOf(entries).filter((line) => line.continued)).toHaveLength(Math.floor(Buffer.byteLength(long) / limits.logLineBytesMax));
  });

  it('is followed live, from any line, by one who joins late and by one who was there', async () => {
    const writer = await openLog();
    const early = read(writer.log, { follow: true });
    await writer.push('stdout', '1\n2\n3\n');
    const late = read(writer.log, { follow: true, from: 3 });
    await writer.push('stdout', '4\n');
    await writer.finish();
    expect(textsOf(await early)).toBe('1\n2\n3\n4\n');
    expect(textsOf(await late)).toBe('3\n4\n');
    expect(textsOf(await read(writer.log, { from: 99 }))).toBe('');
  });

  it('without a follower ends where it is', async () => {
    const writer = await openLog();
    await writer.push('stdout', 'so far\n');
    await until(async () => textsOf(await read(writer.log)) === 'so far\n', 'the line to be published');
    expect((await read(writer.log)).at(-1)).toMatchObject({ line: 1 });
    await writer.finish();
  });

  it('longer than what Redis keeps is whole for those who ask later', async () => {
    const writer = await openLog();
    const block = `${'0123456789abcdef'.repeat(6)}\n`.repeat(8_000);
    for (let n = 0; n < 24; n += 1) await writer.push('stdout', block);
    const { log: digest } = await writer.finish();
    const inRedis = await connection.memory('USAGE', keys.log(writer.log.run, 1, 'c'));
    expect(inRedis).toBeLessThan(2 * limits.logTailBytesMax);
    const text = textsOf(await read(writer.log));
    expect(sha256(text)).toBe(digest.sha256);
    expect(textsOf(await read(writer.log, { from: 191_999 }))).toBe(block.slice(0, 2 * 97));
  });

  it('is whole for a follower whose lines are trimmed at the moment that they are read', async () => {
    const log: LogId = { run: randomUUID(), attempt: 1, claim: 'c' };
    const chunkOf = (line: number) => ({
      firstLine: line,
      lines: 1,
      ndjson: Buffer.from(`{"line":${line},"atMs":0,"source":"stdout","text":"${line}"}\n`),
    });
    for (const line of [1, 2, 3]) await appendChunks(connection, log, [chunkOf(line)]);
    for (const line of [1, 2]) await archiveChunk(store, log, chunkOf(line));
    const trimming: Redis = Object.create(connection, {
      xrangeBuffer: {
        value: async (...args: Parameters<Redis['xrangeBuffer']>) => {
          await trimBefore(connection, log, 3);
          return connection.xrangeBuffer(...args);
        },
      },
    });
    const texts: Buffer[] = [];
    const source = { redis: trimming, store, wakeUps, endOf };
    for await (const chunk of readLog(source, { log, from: 1, follow: false, signal: new AbortController().signal })) texts.push(chunk);
    expect(linesOf(Buffer.concat(texts).toString().trimEnd().split('\n').map(parseLogEntry)).map(({ line }) => line)).toEqual([1, 2, 3]);
  });

  it('is read from the archive once its stream has expired', async () => {
    const writer = await openLog();
    await writer.push('stdout', 'kept\n');
    await writer.finish();
    expect(await connection.pttl(keys.log(writer.log.run, 1, 'c'))).toBeGreaterThan(0);
    await connection.del(keys.log(writer.log.run, 1, 'c'));
    expect(textsOf(await read(writer.log))).toBe('kept\n');
  });

  it('shows lines that nobody has any more as a gap', async () => {
    const writer = await openLog();
    await writer.push('stdout', 'lost\nlost too\n');
    await writer.finish();
    await connection.del(keys.log(writer.log.run, 1, 'c'));
    for (const key of await store.listDocuments(`runs/${writer.log.run}/1-c/log/`)) await store.removeDocument(key);
    expect((await read(writer.log))[0]).toMatchObject({ gap: { from: 1, to: 2 } });
  });

  it('of which Redis lacks the middle, and the end the archive alone has, is whole for whoever reads it', async () => {
    const log: LogId = { run: randomUUID(), attempt: 1, claim: 'c' };
    const chunkOf = (line: number) => ({
      firstLine: line,
      lines: 1,
      ndjson: Buffer.from(`{"line":${line},"atMs":0,"source":"stdout","text":"${line}"}\n`),
    });
    for (const line of [2, 4]) await archiveChunk(store, log, chunkOf(line));
    for (const line of [1, 3]) await appendChunks(connection, log, [chunkOf(line)], line);
    expect(textsOf(await read(log))).toBe('1\n2\n3\n');
    states.set(log.run, 'ended');
    expect(textsOf(await read(log))).toBe('1\n2\n3\n4\n');
    expect(await sealLog(connection, store, log)).toMatchObject({ lines: 4, missing: 0, sha256: sha256('1\n2\n3\n4\n') });
  });

  it('whose writer died is sealed: archived, counted, and the same again', async () => {
    const log: LogId = { run: randomUUID(), attempt: 1, claim: 'c' };
    const chunkOf = (line: number) => ({
      firstLine: line,
      lines: 2,
      ndjson: Buffer.from([line, line + 1].map((n) => `{"line":${n},"atMs":0,"source":"stdout","text":"${n}"}\n`).join('')),
    });
    await archiveChunk(store, log, chunkOf(1));
    for (const line of [1, 3, 5]) await appendChunks(connection, log, [chunkOf(line)]);
    const digest = { lines: 6, bytes: 12, sha256: sha256('1\n2\n3\n4\n5\n6\n'), truncated: false, missing: 0 };
    expect(await sealLog(connection, store, log)).toEqual(digest);
    await connection.del(keys.log(log.run, 1, 'c'));
    expect(await sealLog(connection, store, log)).toEqual(digest);
    states.set(log.run, 'ended');
    expect(textsOf(await read(log))).toBe('1\n2\n3\n4\n5\n6\n');
    expect(await sealLog(connection, store, { ...log, attempt: 2 })).toMatchObject({ lines: 0, bytes: 0, sha256: sha256('') });
  });

  describe('whose entries do not go on from those that are there', () => {
    const log = (): LogId => ({ run: randomUUID(), attempt: 1, claim: 'c' });
    const keyOf = ({ run }: LogId): string => keys.log(run, 1, 'c');
    const idsOf = async (of: LogId): Promise<string[]> => (await connection.xrange(keyOf(of), '-', '+')).map(([id]) => id);
    const textOfLine = (line: number): string => `${JSON.stringify({ line, atMs: 0, source: 'stdout', text: String(line) })}\n`;
    /** `1-2 3-6`: two entries, with the first line and the last one of each. */
    const append = (to: LogId, entries: string, firstUnarchived = 1): Promise<number> => {
      const chunks = entries.split(' ').map((entry) => {
        const [firstLine = 0, last = 0] = entry.split('-').map(Number);
        const lines = last - firstLine + 1;
        return { firstLine, lines, ndjson: Buffer.from(Array.from({ length: lines }, (_, n) => textOfLine(firstLine + n)).join('')) };
      });
      return appendChunks(connection, to, chunks, firstUnarchived);
    };

    it('has each line once where they repeat some, as they were or cut otherwise', async () => {
      const one = log();
      expect(await append(one, '1-2 3-6')).toBe(6);
      expect(await append(one, '1-2 3-6')).toBe(6);
      expect(await append(one, '2-3 4-5 6-6')).toBe(6);
      expect(await idsOf(one)).toEqual(['1-0', '3-0']);
      expect(await append(one, '7-7 8-9')).toBe(9);
      expect(linesOf(await read(one)).map(({ line }) => line)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });

    it('stays as it was where lines are missing, or some are new and some are not', async () => {
      const one = log();
      expect(await append(one, '2-3')).toBe(0);
      expect(await connection.exists(keyOf(one))).toBe(0);
      expect(await append(one, '1-2')).toBe(2);
      expect(await append(one, '4-5 6-6')).toBe(2);
      expect(await append(one, '2-3 4-4')).toBe(2);
      expect(await connection.pttl(keyOf(one))).toBeGreaterThan(limits.logStreamTtlMs / 2);
      expect(await append(one, '3-3 4-4')).toBe(4);
      expect(await idsOf(one)).toEqual(['1-0', '3-0', '4-0']);
      expect((await connection.keys(`*${one.run}*`)).length).toBe(1);
    });

    it('stays as it was where the script fails that is to find out', async () => {
      const one = log();
      expect(await append(one, '1-2')).toBe(2);
      const wakeKey = keys.wake(shardOf(one.run));
      await connection.rename(wakeKey, `${wakeKey}:kept`);
      await connection.set(wakeKey, 'no stream');
      await expect(append(one, '3-4')).rejects.toThrow('WRONGTYPE');
      await connection.rename(`${wakeKey}:kept`, wakeKey);
      expect(await idsOf(one)).toEqual(['1-0']);
      expect(await append(one, '3-6')).toBe(6);
      expect(await idsOf(one)).toEqual(['1-0', '3-0']);
    });

    it('goes on where the script had failed that gives it back', async () => {
      const one = log();
      expect(await append(one, '1-2')).toBe(2);
      await connection.rename(keyOf(one), keys.logOpen(one.run, 1, 'c'));
      expect(await append(one, '5-5')).toBe(2);
      expect(await idsOf(one)).toEqual(['1-0']);
      await connection.rename(keyOf(one), keys.logOpen(one.run, 1, 'c'));
      expect(await append(one, '3-4')).toBe(4);
      expect(await idsOf(one)).toEqual(['1-0', '3-0']);
    });

    it('is behind what an older builder had there, which has no place of its last line', async () => {
      const one = log();
      await connection.xadd(keyOf(one), '1-0', 'n', '2', 'd', `${textOfLine(1)}${textOfLine(2)}`);
      expect(await append(one, '2-2')).toBe(2);
      expect(await append(one, '4-4')).toBe(2);
      expect(await append(one, '3-4')).toBe(4);
      expect(await append(one, '5-5')).toBe(5);
      expect(await idsOf(one)).toEqual(['1-0', '3-0', '5-0']);
    });

    it('goes on where all that Redis had is in the archive, and behind a gap that the archive fills', async () => {
      const one = log();
      expect(await append(one, '1-5')).toBe(5);
      await connection.xtrim(keyOf(one), 'MAXLEN', 0);
      expect(await append(one, '4-5', 6)).toBe(5);
      expect(await append(one, '6-6', 6)).toBe(6);
      expect(await append(one, '9-9', 9)).toBe(9);
      expect(await idsOf(one)).toEqual(['6-0', '9-0']);
    });
  });

  it('goes on behind entries that Redis has of those that are sent together', async () => {
    const log: LogId = { run: randomUUID(), attempt: 1, claim: 'c' };
    const spool = await openSpool(`${temp.path}/${log.run}.ndjson`);
    const splitter = createLineSplitter({ startedAtMs: performance.now(), write: (ndjson, lines) => spool.append(ndjson, lines) });
    for (let n = 0; n < 3 * limits.logEntryBytesMax; n += 10_000)
      await splitter.push('stdout', Buffer.from(`${'x'.repeat(99)}\n`.repeat(100)));
    const digest = await splitter.end();
    const { chunk, lines } = await spool.readFrom(0, limits.logEntryBytesMax);
    await appendChunks(connection, log, [{ firstLine: 1, lines, ndjson: chunk }]);
    const publisher = startPublisher({ redis: connection, store, spool, log, logger });
    await publisher.finish(new AbortController().signal);
    expect(sha256(textsOf(await read(log)))).toBe(digest.sha256);
    // The archive would fill a gap for a reader.
    let next = 1;
    for (const [id, [, lines]] of await connection.xrange(keys.log(log.run, 1, 'c'), '-', '+')) {
      expect(id).toBe(`${next}-0`);
      next += Number(lines);
    }
    expect(next).toBe(digest.lines + 1);
  });

  it('appended twice is there once', async () => {
    const log: LogId = { run: randomUUID(), attempt: 1, claim: 'c' };
    const chunk = { firstLine: 1, lines: 1, ndjson: Buffer.from('{"line":1,"atMs":0,"source":"stdout","text":"once"}\n') };
    await appendChunks(connection, log, [chunk]);
    await appendChunks(connection, log, [chunk]);
    expect(textsOf(await read(log))).toBe('once\n');
  });
});

/** How many lines an entry stands for. */
const coverOf = (entry: LogEntry): number => ('cut' in entry ? entry.cut.to - entry.cut.from + 1 : 'line' in entry ? 1 : 0);

describe('a log beyond its cap', () => {
  const cap: Cap = { bytesMax: 24_000, tailBytes: 4_000 };
  const LINES = 2_000;
  const say = async (writer: Writer, from: number, to: number): Promise<void> => {
    for (let n = from; n <= to; n += 1) await writer.push('stdout', `line ${n}\n`);
  };

  it('keeps its head and its end, with one cut that says which lines are not there', async () => {
    const writer = await openLog(cap);
    const following = read(writer.log, { follow: true });
    await say(writer, 1, LINES);
    await writer.note('the last word');
    const { log: digest } = await writer.finish();
    const entries = await read(writer.log);
    expect(await following).toEqual(entries);
    const at = entries.findIndex((entry) => 'cut' in entry);
    const { cut } = entries[at] as { cut: { from: number; to: number } };
    expect(entries.filter((entry) => 'cut' in entry)).toHaveLength(1);
    const head = linesOf(entries.slice(0, at));
    const tail = linesOf(entries.slice(at));
    expect(head.at(-1)).toMatchObject({ source: 'builder', text: 'builder: this log is full: of what follows, its end alone is kept' });
    expect([head.length, cut.from, cut.to]).toEqual([head.length, head.length + 1, (tail[0]?.line ?? 0) - 1]);
    expect(head.slice(0, -1).map(({ text }) => text)).toEqual(Array.from({ length: head.length - 1 }, (_, n) => `line ${n + 1}`));
    expect(tail.map(({ line }) => line)).toEqual(Array.from({ length: tail.length }, (_, n) => cut.to + 1 + n));
    expect(tail.slice(-2).map(({ text }) => text)).toEqual([`line ${LINES}`, 'builder: the last word']);
    const stored = (lines: LogLine[]): number => Buffer.byteLength(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    expect([stored(head) > 20_000, stored(head) < 20_300, stored(tail) >= 4_000, stored(tail) < 4_200]).toEqual([true, true, true, true]);
    const text = textsOf(entries);
    expect(digest).toEqual({ lines: LINES + 2, bytes: Buffer.byteLength(text), sha256: sha256(text), truncated: true, missing: 0 });
  });

  it('is read from any line, live or archived, and none of its lines is passed over in silence', async () => {
    const writer = await openLog(cap);
    await say(writer, 1, LINES);
    await writer.finish();
    const whole = await read(writer.log);
    const { cut } = whole.find((entry) => 'cut' in entry) as { cut: { from: number; to: number } };
    const everyRead = async (): Promise<void> => {
      for (const from of [1, 2, cut.from - 1, cut.from, cut.from + 1, cut.to - 1, cut.to, cut.to + 1, LINES, LINES + 1]) {
        const entries = await read(writer.log, { from });
        expect([from, entries.reduce((sum, entry) => sum + coverOf(entry), 0)]).toEqual([from, LINES + 1 - from + 1]);
        const first = entries[0] as LogEntry;
        expect('cut' in first ? first : { line: 'line' in first && first.line }).toEqual(
          from >= cut.from && from <= cut.to ? { cut: { from, to: cut.to } } : { line: from },
        );
      }
    };
    await everyRead();
    await connection.del(keys.log(writer.log.run, 1, 'c'));
    await everyRead();
    expect(await read(writer.log)).toEqual(whole);
  });

  it('whose writer died is sealed with its cut', async () => {
    const writer = await openLog(cap);
    await say(writer, 1, LINES);
    const { log: digest } = await writer.finish();
    for (const key of await store.listDocuments(`runs/${writer.log.run}/1-c/log/`)) await store.removeDocument(key);
    expect(await sealLog(connection, store, writer.log)).toEqual(digest);
    await connection.del(keys.log(writer.log.run, 1, 'c'));
    expect(await sealLog(connection, store, writer.log)).toEqual(digest);
    expect(await read(writer.log, { from: 700 })).toEqual(expect.arrayContaining([{ cut: { from: 700, to: expect.any(Number) } }]));
  });

  it('by no more than its end may be long is whole', async () => {
    const writer = await openLog(cap);
    await say(writer, 1, 400);
    const { log: digest } = await writer.finish();
    expect(digest).toMatchObject({ lines: 401, truncated: false });
    expect(linesOf(await read(writer.log)).filter(({ source }) => source === 'stdout')).toHaveLength(400);
  });

  it('arrives whole over a Redis that is away meanwhile', async () => {
    const writer = await openLog(cap);
    await say(writer, 1, 100);
    const following = read(writer.log, { follow: true });
    await redis.kill();
    await say(writer, 101, LINES);
    await redis.start();
    await writer.finish();
    const entries = await following;
    expect(entries).toEqual(await read(writer.log));
    expect(entries.reduce((sum, entry) => sum + coverOf(entry), 0)).toBe(LINES + 1);
  });
});

describe('while Redis is away', () => {
  /** At its end, in Redis as in the archive alone. */
  const expectWhole = async (writer: Writer, text: string): Promise<void> => {
    const { log: digest } = await writer.finish();
    expect(digest.sha256).toBe(sha256(text));
    expect(textsOf(await read(writer.log)) === text).toBe(true);
    await connection.del(keys.log(writer.log.run, 1, 'c'));
    expect(textsOf(await read(writer.log)) === text).toBe(true);
  };

  it('the log waits on disk and arrives in order and once', async () => {
    const writer = await openLog();
    await writer.push('stdout', 'before\n');
    await until(async () => textsOf(await read(writer.log)) === 'before\n', 'the first line');
    const following = read(writer.log, { follow: true });
    await redis.kill();
    for (let n = 0; n < 1_000; n += 1) await writer.push('stdout', `line ${n}\n`);
    await redis.start();
    await writer.finish();
    const text = `before\n${Array.from({ length: 1_000 }, (_, n) => `line ${n}\n`).join('')}`;
    expect(textsOf(await following)).toBe(text);
    expect(textsOf(await read(writer.log))).toBe(text);
  });

  it('a log that is longer than what the worker holds in memory is read again from its disk', async () => {
    const writer = await openLog();
    await writer.push('stdout', 'before\n');
    await until(async () => textsOf(await read(writer.log)) === 'before\n', 'the first line');
    await redis.kill();
    const expected = ['before\n'];
    // Short ones, some larger than an entry of the stream, and a line that is larger alone.
    for (let n = 0; Buffer.byteLength(expected.join('')) < 2 * limits.logWindowBytes; n += 1) {
      const text =
        n % 50 === 7 ? `${n}\n`.repeat(4_000) : n === 60 ? `${'y'.repeat(200_000)}\n` : `line ${n} ${'z'.repeat(900)}\n`.repeat(20);
      expected.push(text);
      await writer.push('stdout', text);
    }
    await redis.start();
    await expectWhole(writer, expected.join(''));
  });

  it('and back older in the middle of a long log, it is given again what it has forgotten', async () => {
    const writer = await openLog();
    const blocks = Array.from({ length: 40 }, (_, n) => `${n} ${'0123456789abcdef'.repeat(6)}\n`.repeat(2_000));
    const push = async (from: number, to: number): Promise<void> => {
      for (const block of blocks.slice(from, to)) await writer.push('stdout', block);
    };
    const isSeen = (lines: number) => async (): Promise<boolean> => (await lastLine(connection, writer.log)) >= lines;
    await push(0, 5);
    await until(isSeen(10_000), 'the first lines');
    redis.remember();
    await push(5, 15);
    await until(isSeen(20_000), 'lines that are to be forgotten');
    await redis.kill();
    await push(15, 30);
    await redis.startOlder();
    await push(30, 40);
    await expectWhole(writer, blocks.join(''));
  });

  it('or full, the log waits, and arrives whole when there is room', async () => {
    const writer = await openLog();
    const block = `${'0123456789abcdef'.repeat(6)}\n`.repeat(5_000);
    await writer.push('stdout', block);
    await until(async () => (await lastLine(connection, writer.log)) === 5_000, 'the first lines');
    await connection.config('RESETSTAT');
    await connection.config('SET', 'maxmemory', '1');
    try {
      await writer.push('stdout', block);
      await until(async () => (await connection.info('errorstats')).includes('errorstat_OOM'), 'lines that Redis refuses');
    } finally {
      await connection.config('SET', 'maxmemory', '0');
    }
    await expectWhole(writer, block.repeat(2));
  });

  it('or forgets again and again what it has of a long log, each time in the middle of some entries, it is given it again', async () => {
    const writer = await openLog();
    const blocks = Array.from({ length: 120 }, (_, n) => `${n} ${'0123456789abcdef'.repeat(6)}\n`.repeat(1_000));
    let seen = 0;
    for (const [index, block] of blocks.entries()) {
      await writer.push('stdout', block);
      // Whatever is on its way just now.
      if (index % 9 === 0) await connection.del(keys.log(writer.log.run, 1, 'c'));
      if (index % 30 === 29) {
        await until(async () => (await lastLine(connection, writer.log)) > seen, 'further lines');
        seen = await lastLine(connection, writer.log);
      }
    }
    await expectWhole(writer, blocks.join(''));
  });

  it('and back empty, the log goes on from what the worker still has', async () => {
    const writer = await openLog();
    await writer.push('stdout', 'one\ntwo\n');
    await until(async () => textsOf(await read(writer.log)) === 'one\ntwo\n', 'the first lines');
    await connection.flushall();
    await redis.kill();
    await redis.start();
    await writer.push('stdout', 'three\n');
    await writer.finish();
    expect(textsOf(await read(writer.log))).toBe('one\ntwo\nthree\n');
  });
});

describe('while the store is away', () => {
  it('lines are seen all the same, Redis holds no more than its part, and the archive is whole when it is back', async () => {
    let away = true;
    let refused = 0;
    const failing: Store = {
      ...store,
      putDocument: (key, content) => {
        if (!away) return store.putDocument(key, content);
        refused += 1;
        return Promise.reject(new Error('away'));
      },
    };
    const writer = await openLog(undefined, failing);
    const block = `${'0123456789abcdef'.repeat(6)}\n`.repeat(8_000);
    for (let n = 0; n < 14; n += 1) await writer.push('stdout', block);
    await until(async () => (await read(writer.log)).length > 8_000, 'the first lines to be seen');
    const finished = writer.finish();
    const held = (): Promise<number | null> => connection.memory('USAGE', keys.log(writer.log.run, 1, 'c'), 'SAMPLES', 0);
    await until(async () => Number(await held()) >= limits.logTailBytesMax, 'Redis to hold its part');
    // However often it is tried again: a store can be away for long.
    const before = refused;
    await until(() => refused > before + 4, 'the store to refuse again and again');
    const twoGroups = 2 * limits.logGroupEntriesMax * limits.logEntryBytesMax;
    expect(await held()).toBeLessThan(1.05 * (limits.logTailBytesMax + twoGroups));
    away = false;
    const { log: digest } = await finished;
    await connection.del(keys.log(writer.log.run, 1, 'c'));
    expect(sha256(textsOf(await read(writer.log)))).toBe(digest.sha256);
    expect(digest.sha256).toBe(sha256(block.repeat(14)));
  });
});

describe('nothing stays in memory', () => {
  const OFTEN = 4_000;
  /** A race with a promise that lives on takes 450 bytes and more; where each entry of a log begins is known until the archive has it. */
  const BYTES_MAX = OFTEN * 150;

  /** What a thing that is done again and again holds more after it than before it; first it is done until all of it is compiled. */
  async function growth(work: () => Promise<void>): Promise<number> {
    for (let n = 0; n < OFTEN / 4; n += 1) await work();
    const before = memoryHeld().heapUsed;
    for (let n = 0; n < OFTEN; n += 1) await work();
    return memoryHeld().heapUsed - before;
  }

  it('of the lines of a script that goes on talking', async () => {
    const writer = await openLog();
    let line = 0;
    const say = async (): Promise<void> => {
      line += 1;
      await writer.push('stdout', 'x\n');
      await until(
        async () => Number(await connection.xlen(keys.log(writer.log.run, writer.log.attempt, writer.log.claim))) >= line || line % 50 > 0,
        'the line to be published',
      );
    };
    expect(await growth(say)).toBeLessThan(BYTES_MAX);
    await writer.finish();
  });

  it('of wake-ups that followers had', async () => {
    const run = randomUUID();
    const follower = wakeUps.follow(run);
    const wake = async (): Promise<void> => {
      await wakeFollowers(connection, run);
      await follower.wait(10_000, new AbortController().signal);
    };
    expect(await growth(wake)).toBeLessThan(BYTES_MAX);
    follower.close();
  });
});
