/** A real Redis for a test file: a process of its own on a unix socket in a temporary folder, on request on loopback too. */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, renameSync, rmSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { ROOT } from './root.ts';
import { tempFolder } from './temp.ts';
import { until } from './until.ts';

export interface TestRedis {
  url: string;
  /** On loopback. */
  tcpUrl: string;
  pid: number;
  /** Keeps what it has now, for `startOlder`. */
  remember(): void;
  /** Starts it again on what it had then, as after the crash of its host. */
  startOlder(): Promise<void>;
  /** Ends it as the power switch would. */
  kill(): Promise<void>;
  /** Starts it again on the same data. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

const FETCHED = `${ROOT}.tools/bin/redis-server`;
export const REDIS_PROGRAM = existsSync(FETCHED) ? FETCHED : 'redis-server';

/** `port`: listens there on loopback as well. `env`: further variables of its program. */
export async function startRedis(port = 0, env: Record<string, string> = {}): Promise<TestRedis> {
  const folder = tempFolder();
  // Unix sockets have short names: the clients' folder is the checkout, so a relative path is enough.
  const socket = `${folder.path}/r.sock`;
  let child: ChildProcess | null = null;
  const start = async (): Promise<void> => {
    const options = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--unixsocket',
      'r.sock',
      '--appendonly',
      'yes',
      '--appendfsync',
      'everysec',
      '--save',
      '',
      '--maxmemory-policy',
      'noeviction',
    ];
    child = spawn(REDIS_PROGRAM, options, { cwd: folder.path, stdio: 'ignore', env: { ...process.env, ...env } });
    child.on('error', () => undefined);
    await until(() => answers(socket), 'redis-server to answer (is it on the PATH?)');
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child;
    if (running === null || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill(signal);
    await ended;
  };
  await start();
  return {
    url: `unix:${socket}`,
    tcpUrl: `redis://127.0.0.1:${port}`,
    get pid() {
      return child?.pid ?? 0;
    },
    remember: () => cpSync(`${folder.path}/appendonlydir`, `${folder.path}/older`, { recursive: true }),
    startOlder: async () => {
      rmSync(`${folder.path}/appendonlydir`, { recursive: true });
      renameSync(`${folder.path}/older`, `${folder.path}/appendonlydir`);
      await start();
    },
    kill: () => end('SIGKILL'),
    start,
    stop: async () => {
      await end('SIGTERM');
      folder.remove();
    },
  };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket(path);
    const done = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('error', done(false));
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => done(data.toString().startsWith('+PONG'))());
  });
}
