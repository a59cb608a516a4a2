/** Following a log from the command line, over a server that breaks off, comes back or stays away. */

import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createClient } from '../../src/cli/client.ts';
import { observeRun } from '../../src/cli/observing.ts';
import { createOutput } from '../../src/cli/output.ts';
import { type CommandOptions, commandIo, runCommand, startCommand } from '../support/command-line.ts';
import {
  type Asked,
  finishedRun,
  json,
  logEnd,
  logLine,
  type ProtocolServer,
  problem,
  RUN_ID,
  runOf,
  startProtocolServer,
} from '../support/protocol-server.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

let folder: TempFolder;
let servers: ProtocolServer[];

beforeEach(() => {
  folder = tempFolder();
  servers = [];
});

afterEach(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  folder.remove();
});

async function serve(reply: (asked: Asked, response: ServerResponse) => void, port = 0): Promise<ProtocolServer> {
  const server = await startProtocolServer(reply, port);
  servers.push(server);
  return server;
}

function at(server: ProtocolServer, more: Partial<CommandOptions> = {}): CommandOptions {
  return { cwd: folder.path, ...more, env: { BUILDER_SERVER: server.url, BUILDER_TOKEN: 'secret-token', ...more.env } };
}

/** A server that knows one run, whose log is this text. */
function serveLog(run: Record<string, unknown>, log: string): Promise<ProtocolServer> {
  return serve((asked, response) => (asked.path.endsWith('/log') ? response.end(log) : json(response, run)));
}

describe('following', () => {
  test('goes on at the next line after the server was killed in the middle of a line', async () => {
    const first = await serve((asked, response) => {
      if (!asked.path.endsWith('/log')) return json(response, runOf());
      response.write(logLine(1, 'one') + logLine(2, 'two') + logLine(3, 'half').slice(0, 20));
    });
    const command = startCommand(['observe', RUN_ID], at(first));
    await until(() => command.stdout() === 'one\ntwo\n', 'the first lines');
    await first.stop();
    const second = await serve((asked, response) => {
      if (!asked.path.endsWith('/log')) return json(response, finishedRun('succeeded'));
      response.end(logLine(3, 'three') + logLine(4, 'four') + logEnd(4));
    }, first.port);
    expect(await command.done).toMatchObject({ code: 0, stdout: 'one\ntwo\nthree\nfour\n', stderr: 'connection lost; trying again\n' });
    const log = second.asked.find((asked) => asked.path.endsWith('/log'));
    expect(log?.query.get('from')).toBe('3');
    expect(log?.query.get('follow')).toBe('1');
    expect(log?.headers.accept).toBe('application/x-ndjson');
  });

  test('reads a later attempt from its first line when it began while the server was away', async () => {
    const asked: string[] = [];
    let attempt = 1;
    const server = await serve((one, response) => {
      if (!one.path.endsWith('/log')) return json(response, attempt === 1 ? runOf() : finishedRun('succeeded', { attempt }));
      asked.push(one.query.get('from') ?? '');
      if (asked.length === 2) return void response.end(logLine(1, 'again') + logEnd(1));
      response.write(logLine(1, 'one') + logLine(2, 'two'));
      attempt = 2;
      setImmediate(() => response.destroy());
    });
    const ran = await runCommand(['observe', RUN_ID], at(server));
    expect(ran).toMatchObject({ code: 0, stdout: 'one\ntwo\nagain\n' });
    expect(asked).toEqual(['1', '1']);
  });

  test('prints the lines of the next attempt in the same stream and resumes by their numbers', async () => {
    const asked: string[] = [];
    const server = await serve((one, response) => {
      if (!one.path.endsWith('/log'))
        return json(response, asked.length < 2 ? runOf({ attempt: 2 }) : finishedRun('succeeded', { attempt: 2 }));
      asked.push(one.query.get('from') ?? '');
      if (asked.length === 2) return void response.end(logLine(2, 'b2') + logEnd(2));
      response.write(logLine(1, 'a1') + logLine(2, 'a2') + logLine(1, 'b1'));
      setImmediate(() => response.destroy());
    });
    expect(await runCommand(['observe', RUN_ID], at(server))).toMatchObject({ code: 0, stdout: 'a1\na2\nb1\nb2\n' });
    expect(asked).toEqual(['1', '2']);
  });
});

describe('a follower', () => {
  test('gives up with 125 and the reason once the server has been away for too long', async () => {
    const server = await serve((asked, response) => {
      if (!asked.path.endsWith('/log')) return json(response, runOf());
      response.write(logLine(1, 'one'));
      setImmediate(() => void server.stop());
    });
    const { io, stdout, stderr } = commandIo(at(server));
    const client = createClient({ server: server.url, token: 'secret-token', tokenFrom: '--token' });
    const session = { io, output: createOutput(io, false), client: () => client, catalogue: {} };
    const code = await observeRun(session, () => client.run(RUN_ID), { from: 1, follow: true, exitZero: false, reconnectMs: 300 });
    expect(code).toBe(125);
    expect(stdout()).toBe('one\n');
    expect(stderr()).toMatch(new RegExp(`connection lost.*expected a server at .*builder observe ${RUN_ID} --from 2`, 's'));
  });

  test('gives up as well where each answer begins and breaks off before anything came of it', async () => {
    const server = await serve((asked, response) => {
      if (!asked.path.endsWith('/log')) return json(response, finishedRun('succeeded'));
      response.flushHeaders();
      setImmediate(() => response.destroy());
    });
    const { io, stderr } = commandIo(at(server));
    const client = createClient({ server: server.url, token: 'secret-token', tokenFrom: '--token' });
    const session = { io, output: createOutput(io, false), client: () => client, catalogue: {} };
    const code = await observeRun(session, () => client.run(RUN_ID), { from: 1, follow: true, exitZero: false, reconnectMs: 300 });
    expect([code, stderr().match(/connection lost/g)]).toEqual([125, ['connection lost']]);
  });

  test('goes on where a quiet log was read to its end so far each time before the connection broke', async () => {
    let breaks = 0;
    const server = await serve((asked, response) => {
      if (!asked.path.endsWith('/log')) return json(response, finishedRun('succeeded'));
      if (breaks === 6) return void response.end(logLine(1, 'one') + logEnd(1));
      breaks += 1;
      response.write('\n');
      setTimeout(() => response.destroy(), 20);
    });
    const { io, stdout } = commandIo(at(server));
    const client = createClient({ server: server.url, token: 'secret-token', tokenFrom: '--token' });
    const session = { io, output: createOutput(io, false), client: () => client, catalogue: {} };
    const code = await observeRun(session, () => client.run(RUN_ID), { from: 1, follow: true, exitZero: false, reconnectMs: 300 });
    expect([code, stdout()]).toEqual([0, 'one\n']);
  });

  test('ends with 125 and the reason when the token was revoked meanwhile', async () => {
    let revoked = false;
    const server = await serve((asked, response) => {
      if (revoked) return problem(response, 401, 'unauthorized', 'no such token');
      if (!asked.path.endsWith('/log')) return json(response, runOf());
      response.write(logLine(1, 'one'));
      revoked = true;
      setImmediate(() => response.destroy());
    });
    const ran = await runCommand(['observe', RUN_ID], at(server));
    expect(ran).toMatchObject({ code: 125, stdout: 'one\n' });
    expect(ran.stderr).toContain('expected a token that');
    expect(ran.stderr).toContain(`builder observe ${RUN_ID} --from 2`);
  });

  test('detaches at once at Ctrl-C and says how to observe and how to cancel', async () => {
    const server = await serve((asked, response) => {
      if (asked.path.endsWith('/log')) response.write(logLine(1, 'one'));
      else json(response, runOf());
    });
    const command = startCommand(['observe', RUN_ID], at(server));
    await until(() => command.stdout() === 'one\n', 'the first line');
    expect(command.interrupt()).toBe(true);
    const ran = await command.done;
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain(`builder observe ${RUN_ID} --from 2`);
    expect(ran.stderr).toContain(`builder cancel ${RUN_ID}`);
    expect(server.asked.every(({ method }) => method === 'GET')).toBe(true);
  });

  test('detaches at once at Ctrl-C while the server is away', async () => {
    const server = await serve((asked, response) => {
      if (asked.path.endsWith('/log')) response.write(logLine(1, 'one'));
      else json(response, runOf());
    });
    const command = startCommand(['observe', RUN_ID], at(server));
    await until(() => command.stdout() === 'one\n', 'the first line');
    await server.stop();
    await until(() => command.stderr().includes('connection lost'), 'the loss');
    command.interrupt();
    expect((await command.done).code).toBe(0);
  });

  test('leaves a run that goes on with 0 under --no-follow', async () => {
    const server = await serveLog(runOf(), logLine(5, 'five'));
    const ran = await runCommand(['observe', RUN_ID, '--no-follow', '--from', '5'], at(server));
    expect(ran).toEqual({ code: 0, stdout: 'five\n', stderr: '' });
    expect(server.asked.find((asked) => asked.path.endsWith('/log'))?.query.get('follow')).toBeNull();
  });
});

describe('observing one attempt', () => {
  const ended = (number: number, outcome: string) => ({
    ...{ number, worker: 'w1', startedAt: '2026-11-24T06:00:01.000Z', finishedAt: '2026-11-24T06:00:02.000Z' },
    ...{ outcome, exitCode: null, signal: null, killed: [] },
  });

  test('prints its log and no other, although a later one runs', async () => {
    const server = await serveLog(runOf({ attempt: 2, attempts: [ended(1, 'superseded'), ended(2, 'lost')] }), logLine(1, 'of the first'));
    const ran = await runCommand(['observe', RUN_ID, '--attempt', '1'], at(server));
    expect(ran).toEqual({ code: 0, stdout: 'of the first\n', stderr: '' });
    expect(server.asked.filter(({ path }) => path.endsWith('/log')).map(({ query }) => query.get('attempt'))).toEqual(['1']);
  });

  test('that there is not is told with 66', async () => {
    const server = await serveLog(finishedRun('succeeded', { attempts: [ended(1, 'succeeded')] }), logEnd(0));
    const ran = await runCommand(['observe', RUN_ID, '--attempt', '2'], at(server));
    expect(ran).toMatchObject({ code: 66, stdout: '', stderr: expect.stringContaining('expected one of 1 attempts') });
  });

  test.each(['0', 'two'])('%s is wrong usage', async (attempt) => {
    const server = await serveLog(runOf(), '');
    expect((await runCommand(['artifacts', RUN_ID, '--attempt', attempt], at(server))).code).toBe(2);
  });
});

describe('the exit code', () => {
  test.each([
    ['succeeded', { exitCode: 0 }, 0, ''],
    ['failed', { exitCode: 3 }, 3, 'builder: failed with exit code 3\n'],
    ['signalled', { signal: 'SIGKILL' }, 137, 'builder: signalled by SIGKILL\n'],
    ['timed-out', { signal: 'SIGTERM', reason: 'time: 1h is over' }, 124, 'builder: timed-out by SIGTERM: time: 1h is over\n'],
    ['cancelled', { reason: 'cancelled: by ada' }, 130, 'builder: cancelled: by ada\n'],
    ['lost', { reason: 'worker-lost: 3 times' }, 125, 'builder: lost: worker-lost: 3 times\n'],
    ['refused', { reason: 'missing-input: a' }, 125, 'builder: refused: missing-input: a\n'],
  ])('of a run that is %s', async (outcome, ending, code, stderr) => {
    const server = await serveLog(finishedRun(outcome, ending), logLine(1, 'one') + logEnd(1, outcome));
    expect(await runCommand(['observe', RUN_ID], at(server))).toEqual({ code, stdout: 'one\n', stderr });
    expect((await runCommand(['observe', RUN_ID, '--exit-zero'], at(server))).code).toBe(0);
  });

  test('of execute --follow is the run’s, with the id on stderr and the log on stdout', async () => {
    const server = await serve((asked, response) => {
      if (asked.method === 'POST') return json(response, { runs: [runOf({ state: 'waiting', attempt: 0 })] }, 201);
      if (asked.path.endsWith('/log')) return void response.end(logLine(1, 'one') + logEnd(1, 'failed'));
      json(response, finishedRun('failed', { exitCode: 7 }));
    });
    const ran = await runCommand(['execute', 'nightly', '--follow'], at(server));
    expect(ran).toEqual({ code: 7, stdout: 'one\n', stderr: `${RUN_ID}\nbuilder: failed with exit code 7\n` });
    expect(await runCommand(['execute', 'nightly'], at(server))).toEqual({ code: 0, stdout: `${RUN_ID}\n`, stderr: '' });
  });
});

describe('a line of the log', () => {
  test('that continues is printed without a newline, and what is missing is said on stderr', async () => {
    const gap = `${JSON.stringify({ gap: { from: 3, to: 4, reason: 'spool lost' } })}\n${JSON.stringify({ cut: { from: 5, to: 9 } })}\n`;
    const server = await serveLog(
      finishedRun('succeeded'),
      logLine(1, 'long ', { continued: true }) +
        logLine(2, 'line', { source: 'stderr' }) +
        gap +
        logLine(10, 'end', { source: 'builder' }) +
        logEnd(10),
    );
    const ran = await runCommand(['observe', RUN_ID], at(server));
    expect(ran.stdout).toBe('long line\nend\n');
    expect(ran.stderr).toBe('builder: lines 3 to 4 are missing: spool lost\nbuilder: lines 5 to 9 were cut from this log\n');
  });

  test('is the object as it came under --json', async () => {
    const log = logLine(1, 'one') + logEnd(1);
    const server = await serveLog(finishedRun('succeeded'), log);
    expect(await runCommand(['observe', RUN_ID, '--json'], at(server))).toEqual({ code: 0, stdout: log, stderr: '' });
  });

  test('has colour on a terminal alone, and never under NO_COLOR', async () => {
    const server = await serveLog(finishedRun('succeeded'), logLine(1, 'red', { source: 'stderr' }) + logEnd(1));
    expect((await runCommand(['observe', RUN_ID], at(server))).stdout).toBe('red\n');
    expect((await runCommand(['observe', RUN_ID], at(server, { terminal: true }))).stdout).toBe('\u001b[31mred\u001b[0m\n');
    expect((await runCommand(['observe', RUN_ID], at(server, { terminal: true, env: { NO_COLOR: '1' } }))).stdout).toBe('red\n');
  });
});
