/** Commands that Redis takes together: what is told where it takes none of them, and over a connection that breaks. */
import { type AddressInfo, connect as connectSocket, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { connect, isRedisAway, type Redis } from '../../src/redis/connection.ts';
import { transact } from '../../src/redis/transaction.ts';
import { freePorts } from '../support/free-ports.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

let redis: TestRedis;
let direct: Redis;
let relay: Server;
let relayed: Redis;
let newest: Socket;
/** Of the next answer so many bytes come through, then the connection breaks. */
let bytesLeft: number | null = null;

beforeAll(async () => {
  const [port = 0] = await freePorts(1);
  redis = await startRedis(port);
  direct = connect(redis.url, 'patient');
  relay = createServer((client) => {
    newest = client;
    const server = connectSocket(port, '127.0.0.1');
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    client.on('data', (chunk) => server.write(chunk));
    server.on('data', (chunk) => {
      client.write(bytesLeft === null ? chunk : chunk.subarray(0, bytesLeft));
      if (bytesLeft !== null) client.end();
      bytesLeft = null;
    });
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  relayed = connect(`redis://127.0.0.1:${(relay.address() as AddressInfo).port}`, 'patient');
});

afterAll(async () => {
  direct.disconnect();
  relayed.disconnect();
  await new Promise((resolve) => relay.close(resolve));
  await redis.stop();
});

it('answers to each, and to one that failed with its error', async () => {
  const content = Buffer.from([0xff, 0x0a, 0x00]);
  expect(
    await transact(direct, [
      ['set', 'bytes', content],
      ['incr', 'bytes'],
      ['strlen', 'bytes'],
    ]),
  ).toEqual(['OK', expect.objectContaining({ message: 'ERR value is not an integer or out of range' }), 3]);
  expect(await direct.getBuffer('bytes')).toEqual(content);
});

it('tells why Redis takes none of them', async () => {
  await direct.config('SET', 'maxmemory', '1');
  const refusal = await transact(direct, [
    ['incr', 'full'],
    ['incr', 'full'],
  ]).catch((cause: unknown) => cause);
  await direct.config('SET', 'maxmemory', '0');
  expect([isRedisAway(refusal), String(refusal)]).toEqual([true, expect.stringContaining('OOM command not allowed')]);
  expect(await direct.exists('full')).toBe(0);
});

it('tells why where that is found out at the end', async () => {
  const other = connect(redis.url, 'patient');
  // One by one, so that something can come between.
  await direct.call('multi');
  await direct.call('incr', 'late');
  await other.config('SET', 'maxmemory', '1');
  const refusal = await direct.call('exec').catch((cause: unknown) => cause);
  await other.config('SET', 'maxmemory', '0');
  other.disconnect();
  expect([isRedisAway(refusal), String(refusal)]).toEqual([true, expect.stringContaining('OOM command not allowed')]);
});

it('are not sent again one by one when the connection breaks between their answers', async () => {
  await relayed.ping();
  const again = new Promise((resolve) => relayed.once('ready', resolve));
  bytesLeft = '+OK\r\n'.length;
  await expect(
    transact(relayed, [
      ['incr', 'once'],
      ['incr', 'once'],
    ]),
  ).rejects.toThrow('aborted due to connection close');
  await again;
  await relayed.ping();
  await until(async () => (await direct.get('once')) !== null, 'Redis to have done what it was sent');
  expect(await direct.get('once')).toBe('2');
});

it('leave no half of them to the next connection when this one turns out to be broken', async () => {
  await relayed.ping();
  const content = Buffer.alloc(100_000, 'x');
  newest.resetAndDestroy();
  // Nobody has heard of it yet.
  expect(relayed.status).toBe('ready');
  expect(
    await transact(relayed, [
      ['set', 'kept', content],
      ['append', 'kept', content],
      ['strlen', 'kept'],
    ]),
  ).toEqual(['OK', 200_000, 200_000]);
  expect(await relayed.strlen('kept')).toBe(200_000);
});
