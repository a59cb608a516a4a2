/** The Redis of `up`: which program, with which settings, and taking over one that its `up` left behind. */
import { accessSync, constants } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BuilderError } from '../service/errors.ts';
import { pause } from '../service/lifecycle.ts';

/** Relative to the data folder, which is the working directory of all programs: the path of a socket has 107 bytes at most. */
export const REDIS_SOCKET = 'redis.sock';
export const REDIS_URL = `unix:${REDIS_SOCKET}`;

/** Where `make` puts the one that it fetches, beside the built programs. */
const FETCHED = fileURLToPath(new URL('../../../.tools/bin/', import.meta.url));
const SERVING_POLL_MS = 10;
const NAMES = ['redis-server', 'valkey-server'];

/** AOF synced each second: a crash of Redis's host loses at most about two seconds, a crash of a process nothing. */
const SETTINGS = {
  port: '0',
  // Redis goes into its own folder (`dir`) before it makes the socket.
  unixsocket: `../${REDIS_SOCKET}`,
  unixsocketperm: '700',
  dir: 'redis',
  appendonly: 'yes',
  appendfsync: 'everysec',
  save: '',
  'maxmemory-policy': 'noeviction',
  daemonize: 'no',
};

/** The command line of Redis; it ends when its parent dies, so that nothing is left of an `up` that was killed. */
export function redisCommand(searchPath: string): string[] {
  const program = [FETCHED, ...searchPath.split(delimiter)].flatMap((folder) => NAMES.map((name) => join(folder, name))).find(isProgram);
  if (program === undefined) {
    throw new BuilderError(
      'bad-config',
      `expected ${NAMES.join(' or ')} on the PATH, got neither: install Debian's redis-server, or run \`make demo\`, which fetches it`,
    );
  }
  const settings = Object.entries(SETTINGS).flatMap(([name, value]) => [`--${name}`, value]);
  const setpriv = searchPath
    .split(delimiter)
    .map((folder) => join(folder, 'setpriv'))
    .find(isProgram);
  return [...(setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'TERM', '--']), program, ...settings];
}

/** Resolves when Redis answers in the data folder (the working directory), having read its files, or the signal is aborted. */
export async function redisAnswers(signal: AbortSignal): Promise<void> {
  while (!signal.aborted && !(await isServing())) await pause(SERVING_POLL_MS, signal);
}

/** Ends a Redis that still serves the data folder (the working directory); resolves when none answers there. */
export async function endOrphanedRedis(signal: AbortSignal): Promise<void> {
  if (!(await isListening())) return;
  // Rare, and the client takes long to load.
  const { connect } = await import('../redis/connection.ts');
  const redis = connect(REDIS_URL, 'command');
  try {
    while (!signal.aborted) {
      try {
        await redis.ping();
      } catch {
        return;
      }
      // It saves what it has and ends; the connection breaks.
      await redis.shutdown('NOSAVE').catch(() => undefined);
      await pause(100, signal);
    }
  } finally {
    redis.disconnect();
  }
}

const isListening = (): Promise<boolean> => asked(null);
/** Not while it reads its files: then it says so instead. */
const isServing = (): Promise<boolean> => asked('PING\r\n');

/** True when it can be connected to and answers the question, if there is one, well. */
function asked(question: string | null): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket(REDIS_SOCKET);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('error', () => done(false)).once('close', () => done(false));
    socket.once('data', (data) => done(data.toString().startsWith('+')));
    socket.once('connect', () => (question === null ? done(true) : socket.write(question)));
  });
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
