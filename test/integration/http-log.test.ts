import { type ClientRequest, get, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { appendChunks } from '../../src/logs/stream.ts';
import { requestCancel } from '../../src/queue/cancel.ts';
import { submitRun } from '../../src/queue/submit.ts';
import { ask } from '../support/http.ts';
import { type Attempt, beginAttempt, startServer, type TestServer } from '../support/server.ts';
import { specOf } from '../support/specs.ts';
import { until } from '../support/until.ts';

let server: TestServer;
const open: ClientRequest[] = [];

beforeAll(async () => {
  server = await startServer();
});

afterEach(() => {
  for (const request of open.splice(0)) request.destroy();
});

afterAll(() => server.stop());

async function newRun(): Promise<string> {
  const spec = specOf();
  await submitRun(server.queues, spec);
  return spec.id;
}

async function newAttempt(): Promise<Attempt> {
  return beginAttempt(server, await newRun());
}

function read(run: string, query = '', headers: Record<string, string> = {}) {
  return ask(server, `/api/v1/runs/${run}/log${query}`, { headers });
}

interface Following {
  answer: IncomingMessage;
  readonly text: string;
  ended: Promise<'whole' | 'cut'>;
}

/** Follows a log; resolves once the server has answered. */
function follow(run: string, accept: string, headers: Record<string, string> = {}): Promise<Following> {
  return new Promise((resolve, reject) => {
    const url = `${server.url}/api/v1/runs/${run}/log?follow=1`;
    const request = get(url, { agent: false, headers: { authorization: `Bearer ${server.token}`, accept, ...headers } }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      const ended = new Promise<'whole' | 'cut'>((end) => {
        answer.on('end', () => end('whole')).on('error', () => end('cut'));
      });
      resolve({
        answer,
        ended,
        get text() {
          return text;
        },
      });
    });
    request.on('error', reject);
    open.push(request);
  });
}

describe('a log over HTTP', () => {
  it('tells what was cut in each form, and goes on behind it or in the middle of it', async () => {
    const attempt = await newAttempt();
    await attempt.say(1, 'one', 'two');
    const ndjson = Buffer.from(`${JSON.stringify({ cut: { from: 3, to: 90 } })}\n`);
    await appendChunks(server.queues.redis, attempt, [{ firstLine: 3, lines: 88, ndjson }]);
    await attempt.say(91, 'the end');
    await attempt.end();
    expect((await read(attempt.run)).text).toBe('one\ntwo\nbuilder: lines 3 to 90 were cut\nthe end\n');
    expect((await read(attempt.run, '?from=50')).text).toBe('builder: lines 50 to 90 were cut\nthe end\n');
    const events = async (last: number) => (await read(attempt.run, '', { accept: 'text/event-stream', 'last-event-id': `${last}` })).text;
    expect(await events(2)).toContain('id: 90\ndata: {"cut":{"from":3,"to":90}}\n\nid: 91\n');
    expect(await events(90)).not.toContain('cut');
  });

  it('is the text of its lines, JSON lines, or events whose ids are line numbers', async () => {
    const attempt = await newAttempt();
    await attempt.say(1, 'one', 'two');
    await attempt.say(3, '<b>three</b>');
    await attempt.end();
    const text = await read(attempt.run);
    expect(text.text).toBe('one\ntwo\n<b>three</b>\n');
    expect(text.headers).toMatchObject({ 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' });
    const lines = (await read(attempt.run, '', { accept: 'application/x-ndjson' })).text.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { line: 1, text: 'one' },
      { line: 2 },
      { line: 3 },
      { end: { lines: 3, outcome: 'succeeded' } },
    ]);
    const events = (await read(attempt.run, '', { accept: 'text/event-stream' })).text.trimEnd().split('\n\n');
    expect(events).toHaveLength(4);
    expect(events[1]).toMatch(/^id: 2\ndata: \{"line":2,.*\}$/);
    expect(events[3]).toMatch(/^event: end\ndata: \{"end":/);
  });

  it('begins at the line asked for, or after the last event that a reader had', async () => {
    const attempt = await newAttempt();
    await attempt.say(1, 'one', 'two', 'three', 'four');
    await attempt.end();
    expect((await read(attempt.run, '?from=3')).text).toBe('three\nfour\n');
    const resumed = await read(attempt.run, '?from=1', { accept: 'text/event-stream', 'last-event-id': '3' });
    expect(resumed.text).toMatch(/^id: 4\ndata: .*\n\nevent: end\n/);
    expect((await read(attempt.run, '?from=99')).text).toBe('');
  });

  it('that lost lines says which', async () => {
    const attempt = await newAttempt();
    await attempt.say(1, 'one');
    await attempt.end({ log: { lines: 5, bytes: 0, sha256: '', truncated: false, missing: 4 } });
    const { text } = await read(attempt.run, '', { accept: 'text/event-stream' });
    expect(text).toMatch(/id: 5\ndata: \{"gap":\{"from":2,"to":5,/);
  });

  it('refuses what it does not know on one line, before it begins', async () => {
    const attempt = await newAttempt();
    expect(await read(attempt.run, '?from=0')).toMatchObject({ status: 422, json: { detail: 'from: expected at least 1, got 0' } });
    expect(await read(attempt.run, '?from=x')).toMatchObject({
      status: 422,
      json: { detail: 'from: expected number, got something else' },
    });
    expect(await read(attempt.run, '?form=3')).toMatchObject({ status: 422, json: { detail: 'expected no field "form"' } });
    expect(await read(attempt.run, '?attempt=2')).toMatchObject({ status: 404, json: { code: 'not-found' } });
    expect(await read('ffffffff')).toMatchObject({ status: 404 });
  });
});

describe('a follower', () => {
  it('of a run that waits is answered at once, and gets its lines as they come, and its end', async () => {
    const run = await newRun();
    const following = await follow(run, 'application/x-ndjson');
    expect(following.answer.statusCode).toBe(200);
    const attempt = await beginAttempt(server, run);
    await attempt.say(1, 'first');
    await until(() => following.text.includes('first'), 'the first line');
    await attempt.say(2, 'second');
    await attempt.end();
    expect(await following.ended).toBe('whole');
    const records = following.text.trimEnd().split('\n');
    expect(records).toHaveLength(3);
    expect(JSON.parse(records[2] ?? '')).toMatchObject({ end: { lines: 2, outcome: 'succeeded' } });
  });

  it('goes on with the next attempt where one ends without a result, and one attempt alone can be read', async () => {
    const first = await newAttempt();
    await first.say(1, 'of the first');
    const following = await follow(first.run, 'text/event-stream');
    await until(() => following.text.includes('of the first'), 'the first attempt');
    await first.interrupt();
    const second = await beginAttempt(server, first.run);
    await second.say(1, 'of the second');
    await second.end();
    expect(await following.ended).toBe('whole');
    expect(following.text.match(/^id: 1$/gm)).toHaveLength(2);
    expect(following.text.match(/^event: end$/gm)).toHaveLength(1);
    expect((await read(first.run)).text).toBe('of the second\n');
    expect((await read(first.run, '?attempt=1')).text).toBe('of the first\n');
  });

  it('sees the end of a run that is cancelled before, or between, its attempts', async () => {
    const waiting = await newRun();
    const attempt = await newAttempt();
    const between = await follow(attempt.run, 'application/x-ndjson');
    const before = await follow(waiting, 'application/x-ndjson');
    await attempt.say(1, 'one');
    await attempt.interrupt();
    await until(() => between.text.includes('one'), 'the line');
    await requestCancel(server.queues, waiting, null);
    await requestCancel(server.queues, attempt.run, null);
    expect([await before.ended, await between.ended]).toEqual(['whole', 'whole']);
    expect(before.text).toMatch(/^\{"end":\{"lines":0,.*"outcome":"cancelled"\}\}\n$/);
    expect(between.text).toMatch(/"text":"one"\}\n\{"end":\{.*"outcome":"cancelled"\}\}\n$/);
  });

  it('who reads slowly holds the server back, and loses nothing', async () => {
    const attempt = await newAttempt();
    const [chunks, perChunk] = [200, 100];
    const filler = 'x'.repeat(1_000);
    const sockets: Socket[] = [];
    server.app.server.on('connection', (socket: Socket) => sockets.push(socket));
    const following = await follow(attempt.run, 'text/plain');
    following.answer.pause();
    for (let n = 0; n < chunks; n += 1) {
      await attempt.say(n * perChunk + 1, ...Array.from({ length: perChunk }, (_, index) => `${n * perChunk + index + 1} ${filler}`));
    }
    await attempt.end();
    const socket = await until(() => sockets.find((one) => one.writableNeedDrain), 'the server to wait for the reader');
    expect(socket.writableLength).toBeLessThan(2 * perChunk * filler.length);
    following.answer.resume();
    expect(await following.ended).toBe('whole');
    const numbers = following.text
      .trimEnd()
      .split('\n')
      .map((line) => Number(line.split(' ', 1)[0]));
    expect(numbers).toEqual(Array.from({ length: chunks * perChunk }, (_, index) => index + 1));
  });

  it('who reads slowly sees each attempt, however many began meanwhile', async () => {
    const first = await newAttempt();
    const filler = 'x'.repeat(100_000);
    const sockets: Socket[] = [];
    server.app.server.on('connection', (socket: Socket) => sockets.push(socket));
    const following = await follow(first.run, 'text/plain');
    following.answer.pause();
    for (let line = 1; line <= 100; line += 1) await first.say(line, filler);
    await until(() => sockets.some((one) => one.writableNeedDrain), 'the server to wait for the reader');
    await first.interrupt();
    const second = await beginAttempt(server, first.run);
    await second.say(1, 'of the second');
    await second.interrupt();
    const third = await beginAttempt(server, first.run);
    await third.say(1, 'of the third');
    await third.end();
    following.answer.resume();
    expect(await following.ended).toBe('whole');
    expect(following.text.replaceAll(`${filler}\n`, '.')).toBe(`${'.'.repeat(100)}of the second\nof the third\n`);
  });

  it('who goes away leaves nothing behind, and one whose server stops sees a cut', async () => {
    const run = await newRun();
    const first = await follow(run, 'text/event-stream');
    first.answer.destroy();
    const second = await follow(run, 'text/plain');
    await server.drain();
    expect(await second.ended).toBe('cut');
  });
});
