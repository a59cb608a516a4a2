/** One request of the command line to a server that falls silent without closing anything, as a machine does that loses its power. */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, describe, expect, test } from '@jest/globals';
import { type Answer, requestOnce } from '../../src/cli/http-request.ts';
import { type ProtocolServer, startProtocolServer } from '../support/protocol-server.ts';
import { until } from '../support/until.ts';

const SILENCE_MS = 200;
const SILENT = `nothing came for ${SILENCE_MS / 1000} s`;

let server: ProtocolServer;

afterEach(() => server.stop());

async function ask(reply: (response: ServerResponse) => void): Promise<Answer> {
  server = await startProtocolServer((_, response) => reply(response));
  return requestOnce(new URL(server.url), { method: 'GET', headers: {}, silenceMs: SILENCE_MS });
}

describe('a server that falls silent', () => {
  test('before its answer is given up', async () => {
    await expect(ask(() => undefined)).rejects.toThrow(SILENT);
  });

  test('within its answer is given up', async () => {
    const answer = await ask((response) => void response.write('half'));
    await expect(answer.text()).rejects.toThrow(SILENT);
  });

  test('is not given up once all of its answer has come, however late that is read', async () => {
    let end = (): void => undefined;
    const answer = await ask((response) => {
      response.write('half');
      end = () => void response.end();
    });
    const chunks = answer.body[Symbol.asyncIterator]();
    expect(String((await chunks.next()).value)).toBe('half');
    end();
    const body = answer.body as IncomingMessage;
    await until(() => body.complete, 'the end of the answer');
    await once(body.socket, 'timeout');
    await once(body.socket, 'timeout');
    expect(await chunks.next()).toMatchObject({ done: true });
  });

  test('is given up only once all that it said has been read, however late', async () => {
    // More than the connection's buffers hold.
    const content = Buffer.alloc(16 * 1024 * 1024, 'x');
    const answer = await ask((response) => void response.write(content));
    await once((answer.body as IncomingMessage).socket, 'timeout');
    let bytes = 0;
    const reading = async (): Promise<void> => {
      for await (const chunk of answer.body) bytes += chunk.length;
    };
    await expect(reading()).rejects.toThrow(SILENT);
    expect(bytes).toBe(content.length);
  });
});
