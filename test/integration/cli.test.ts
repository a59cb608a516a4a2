/** The producer's command line: how it finds its server, speaks to it, and says what went wrong. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { CATALOGUE } from '../../src/cli/catalogue.ts';
import { type CommandOptions, runCommand } from '../support/command-line.ts';
import { freePorts } from '../support/free-ports.ts';
import { type Asked, json, type ProtocolServer, problem, RUN_ID, runOf, startProtocolServer } from '../support/protocol-server.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

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

async function serve(reply: (asked: Asked, response: ServerResponse) => void): Promise<ProtocolServer> {
  const server = await startProtocolServer(reply);
  servers.push(server);
  return server;
}

function at(server: ProtocolServer, more: Partial<CommandOptions> = {}): CommandOptions {
  return { cwd: folder.path, env: { BUILDER_SERVER: server.url, BUILDER_TOKEN: 'secret-token' }, ...more };
}

const noWorkers = (_: Asked, response: ServerResponse): void => json(response, { workers: [] });

const JOB = {
  name: 'nightly',
  platforms: ['debian-12'],
  script: 'true',
  template: null,
  params: {},
  period: 'daily',
  tz: null,
  next: '2026-11-25T06:00:00.000Z',
  paused: false,
  createdAt: '2026-11-24T06:00:00.000Z',
  updatedAt: '2026-11-24T06:00:00.000Z',
};

describe('the server and the token', () => {
  test('come from the nearest .builder/client.json above the folder', async () => {
    const server = await serve(noWorkers);
    mkdirSync(`${folder.path}/.builder`);
    mkdirSync(`${folder.path}/a/b`, { recursive: true });
    writeFileSync(`${folder.path}/.builder/client.json`, JSON.stringify({ server: server.url, token: 'from-above' }));
    expect((await runCommand(['workers'], { cwd: `${folder.path}/a/b` })).code).toBe(0);
    expect(server.asked[0]?.headers.authorization).toBe('Bearer from-above');
  });

  test('come from the user’s own configuration where no folder has one', async () => {
    const server = await serve(noWorkers);
    mkdirSync(`${folder.path}/config/builder`, { recursive: true });
    mkdirSync(`${folder.path}/a`);
    writeFileSync(`${folder.path}/config/builder/client.json`, JSON.stringify({ server: server.url, token: 'from-xdg' }));
    const ran = await runCommand(['workers'], { cwd: `${folder.path}/a`, env: { XDG_CONFIG_HOME: `${folder.path}/config` } });
    expect(ran).toEqual({ code: 0, stdout: '', stderr: 'no workers\n' });
    expect(server.asked[0]?.headers.authorization).toBe('Bearer from-xdg');
  });

  test('come from flags before the environment before files, and a file’s token goes to its own server alone', async () => {
    const [one, other] = [await serve(noWorkers), await serve(noWorkers)];
    mkdirSync(`${folder.path}/.builder`);
    writeFileSync(`${folder.path}/.builder/client.json`, JSON.stringify({ server: one.url, token: 'of-one' }));
    await runCommand(['workers', '--server', other.url], { cwd: folder.path });
    await runCommand(['workers', '--server', other.url, '--token', 'flag'], at(one));
    expect(other.asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer flag']);
    expect(one.asked).toEqual([]);
  });

  test('that are written wrong end with 78 and one line', async () => {
    mkdirSync(`${folder.path}/.builder`);
    writeFileSync(`${folder.path}/.builder/client.json`, '{');
    const ran = await runCommand(['workers'], { cwd: folder.path });
    expect(ran.code).toBe(78);
    expect(ran.stderr).toMatch(/^builder: .*client\.json: expected .*\n$/);
  });
});

describe('an answer', () => {
  test('that sends elsewhere is not followed, so the token stays', async () => {
    const other = await serve(noWorkers);
    const server = await serve((_, response) => response.writeHead(307, { location: `${other.url}/api/v1/workers` }).end());
    const ran = await runCommand(['workers'], at(server));
    expect(ran.code).toBe(69);
    expect(other.asked).toEqual([]);
  });

  test('that is a problem is told in one line, with the exit code of its code', async () => {
    const server = await serve((_, response) => problem(response, 409, 'name-in-use', 'expected a new name,\n  got nightly'));
    writeFileSync(`${folder.path}/s`, 'true');
    const ran = await runCommand(['schedule', 'nightly', 'debian-12', 's'], at(server));
    expect(ran).toEqual({ code: 2, stdout: '', stderr: 'builder: expected a new name, got nightly\n' });
    const asJson = await runCommand(['schedule', 'nightly', 'debian-12', 's', '--json'], at(server));
    expect(JSON.parse(asJson.stderr)).toEqual({ error: { code: 'name-in-use', message: 'expected a new name, got nightly' } });
  });

  test.each([
    [401, 'unauthorized', 77],
    [403, 'forbidden', 77],
    [404, 'not-found', 66],
    [409, 'ambiguous-id', 2],
    [503, 'redis-unavailable', 69],
  ])('of status %d with code %s ends with %s', async (status, code, exit) => {
    const server = await serve((_, response) => problem(response, status, code, 'words'));
    expect((await runCommand(['show', '0a1b2c3d'], at(server))).code).toBe(exit);
  });

  test.each(['<html>', '{"workers":[{"name":1}]}', '[]'])('that is no builder’s (%s) ends with 69', async (body) => {
    const server = await serve((_, response) => response.end(body));
    const ran = await runCommand(['workers'], at(server));
    expect(ran.code).toBe(69);
    expect(ran.stderr).toContain('expected a builder server');
  });

  test('that never comes because nobody listens ends with 69, under --json as JSON', async () => {
    const server = `http://127.0.0.1:${(await freePorts(1))[0]}`;
    expect((await runCommand(['info', '--server', server], { cwd: folder.path })).code).toBe(69);
    const ran = await runCommand(['info', '--server', server, '--json'], { cwd: folder.path });
    expect(ran).toMatchObject({ code: 69, stdout: '' });
    expect(JSON.parse(ran.stderr).error.code).toBe('unreachable');
  });

  test('that never comes because the server takes the connection and closes it ends with 69', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined).destroy());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    for (const command of [['info'], ['run', '-c', 'true', '--platform', 'p'], ['cancel', RUN_ID]]) {
      expect((await runCommand([...command, '--server', url], { cwd: folder.path })).code).toBe(69);
    }
    await new Promise((resolve) => server.close(resolve));
  });

  test('with a control character cannot rewrite the terminal', async () => {
    const server = await serve((_, response) => json(response, { runs: [runOf({ worker: 'w', job: '\u001b[2Jx' })], next: null }));
    expect((await runCommand(['runs'], at(server))).stdout).not.toContain('\u001b');
  });
});

describe('wrong usage', () => {
  test.each([
    [[]],
    [['frobnicate']],
    [['run', '--no-such-flag', 'x']],
    [['info', 'extra']],
    [['observe']],
    [['template']],
    [['template', 'frob']],
    [['schedule', 'a/b', 'p', 's']],
    [['schedule', 'a', 'p']],
    [['schedule', 'a', 'p', 's', '--cron', '* *']],
    [['schedule', 'a', 'p', 's', '--period', 'yearly']],
    [['schedule', 'a', 'p', 's', '--cron', '0 0 * * *', '--tz', 'Mars/Base']],
    [['schedule', 'a', 'p', 's', '--every', '1h', '--at', '2026-01-01T00:00:00Z']],
    [['schedule', 'a', 'p', 's', '--every', 'soon']],
    [['schedule', 'a', 'p', 's', '--tz', 'UTC']],
    [['schedule', 'a', 'p', 's', '--timeout', 'soon']],
    [['schedule', 'a', 'p', 's', '--env', 'X']],
    [['schedule', 'a', 'p', 's', '--env', 'BUILDER_X=1']],
    [['schedule', 'a', 'p', 's', '--label', 'A B=1']],
    [['reschedule', 'a', 'tomorrow']],
    [['run', 's', '-c', 'true']],
    [['run', 's', '--priority', 'urgent']],
    [['runs', '--limit', '0']],
    [['runs', '--outcome', 'good']],
    [['observe', 'x', '--from', '0']],
    [['token', 'create', 'a', '--scope', 'all']],
    [['orb-build', 'a', 'x; rm -rf /']],
    [['template', 'set', 't', 'p']],
    [['completion', 'fish']],
    [['schedule', 'a', 'p', 's', '--overlap', 'never']],
  ])('%j ends with 2 and one line, and nothing is sent', async (args: string[]) => {
    const server = await serve((_, response) => json(response, {}, 500));
    writeFileSync(`${folder.path}/s`, 'true');
    const ran = await runCommand([...args, ...(args.length > 0 ? ['--server', server.url] : [])], at(server));
    expect(ran).toMatchObject({ code: 2, stdout: '' });
    expect(ran.stderr).toMatch(/^builder: .+\n$/);
    expect(server.asked).toEqual([]);
  });
});

describe('a command', () => {
  test('schedules only a new name, unless told to replace', async () => {
    const server = await serve((_, response) => json(response, JOB, 201));
    const options = at(server, { stdin: 'echo hi\n' });
    const ran = await runCommand(['schedule', 'nightly', 'debian-12', '-', '--timeout', '90s', '--env', 'A=b=c'], options);
    expect(ran).toEqual({ code: 0, stdout: 'scheduled nightly on debian-12, next 2026-11-25T06:00:00Z\n', stderr: '' });
    writeFileSync(`${folder.path}/s`, 'true');
    await runCommand(['schedule', 'nightly', 'debian-12', 's', '--replace'], at(server));
    const put = server.asked.filter(({ method }) => method === 'PUT');
    expect(put.map(({ method, path, headers }) => [method, path, headers['if-none-match']])).toEqual([
      ['PUT', 'jobs/nightly', '*'],
      ['PUT', 'jobs/nightly', undefined],
    ]);
    expect(JSON.parse(server.asked[0]?.body.toString() ?? '')).toMatchObject({ script: 'echo hi\n', timeoutMs: 90_000, env: { A: 'b=c' } });
  });

  test('that runs without a job says that ticks do not concern it', async () => {
    const server = await serve((_, response) => json(response, runOf(), 201));
    const ran = await runCommand(['run', '-c', 'true', '--platform', 'debian-12', '--detach', '--overlap', 'skip'], at(server));
    const stderr = 'builder: --overlap and --misfire are about ticks; a run without a job has none\n';
    expect(ran).toEqual({ code: 0, stdout: `${RUN_ID}\n`, stderr });
  });

  test('that runs takes the only platform known, else lists them', async () => {
    const names = ['b'];
    const server = await serve((asked, response) => {
      if (asked.path === 'platforms') json(response, { platforms: names.map((name) => ({ name, dropped: false, workers: 1 })) });
      else json(response, runOf({ platform: 'b' }), 201);
    });
    expect(await runCommand(['run', '-c', 'true', '--detach'], at(server))).toEqual({ code: 0, stdout: `${RUN_ID}\n`, stderr: '' });
    expect(JSON.parse(server.asked[1]?.body.toString() ?? '')).toMatchObject({ platform: 'b', script: 'true\n' });
    names.push('a');
    const ran = await runCommand(['run', '-c', 'true'], at(server));
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain('there are several: a, b');
  });

  test('orb-build says how to set its template where it is missing', async () => {
    const server = await serve((_, response) => problem(response, 404, 'not-found', 'no template'));
    const ran = await runCommand(['orb-build', 'dns', 'dns-primary-git.1.0'], at(server));
    expect(ran.code).toBe(66);
    expect(ran.stderr).toContain('builder template set orb-build');
  });

  test('prints a new token alone on stdout', async () => {
    const token = { id: 't1', name: 'ci', scope: 'submit', createdAt: '2026-11-24T06:00:00.000Z', token: 'the-secret' };
    const server = await serve((_, response) => json(response, token, 201));
    const ran = await runCommand(['token', 'create', 'ci'], at(server));
    expect(ran).toMatchObject({ code: 0, stdout: 'the-secret\n' });
    expect(JSON.parse(server.asked[0]?.body.toString() ?? '')).toEqual({ name: 'ci', scope: 'submit' });
  });
});

describe('help', () => {
  test('names every command, and each command explains itself', async () => {
    const { stdout } = await runCommand(['--help'], { cwd: folder.path });
    for (const [name, entry] of Object.entries(CATALOGUE)) {
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
      if (entry.load === undefined) continue;
      expect(await runCommand([name, '--help'], { cwd: folder.path })).toMatchObject({ code: 0, stderr: '' });
    }
  });

  test.each(['bash', 'zsh'])('completes all commands in %s', async (shell) => {
    const { code, stdout } = await runCommand(['completion', shell], { cwd: folder.path });
    expect(code).toBe(0);
    const bash = stdout.slice(stdout.indexOf('_builder_flags()'));
    const ask = `${bash}\nCOMP_WORDS=(builder ''); COMP_CWORD=1; _builder; echo "\${COMPREPLY[@]}"\nCOMP_WORDS=(builder schedule x --per); COMP_CWORD=3; _builder; echo "\${COMPREPLY[@]}"`;
    const [commands, flags] = execFileSync('bash', ['-c', ask], { encoding: 'utf8' }).split('\n');
    expect(commands?.split(' ').sort()).toEqual(Object.keys(CATALOGUE).sort());
    expect(flags).toBe('--period');
    execFileSync('bash', ['-n'], { input: stdout });
  });
});

describe('a request that makes a run', () => {
  test('and whose answer is lost is sent again under the same key; one that is refused is not', async () => {
    let broken = 2;
    const server = await serve((asked, response) => {
      if (asked.method === 'POST' && broken-- > 0) response.destroy();
      else if (asked.path === 'jobs/nightly/execute') json(response, { runs: [runOf()] }, 201);
      else problem(response, 404, 'not-found', 'no such job: other');
    });
    const done = await runCommand(['execute', 'nightly'], at(server));
    expect([done.code, done.stdout]).toEqual([0, `${RUN_ID}\n`]);
    const keys = server.asked.filter(({ method }) => method === 'POST').map(({ headers }) => headers['idempotency-key']);
    expect([keys.length, new Set(keys).size, typeof keys[0]]).toEqual([3, 1, 'string']);
    expect((await runCommand(['execute', 'other'], at(server))).code).toBe(66);
    expect(server.asked.filter(({ method, path }) => method === 'POST' && path === 'jobs/other/execute')).toHaveLength(1);
  });
});
