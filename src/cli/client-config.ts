/** Which server a command speaks to, and with which token: flags, environment, then the nearest `client.json`. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BuilderError, type ErrorCode, oneLine } from '../service/errors.ts';
import type { Io } from './io.ts';

export interface Access {
  /** Without a slash at its end. */
  server: string;
  token: string | undefined;
  /** Where the token came from, for messages; `null` without one. */
  tokenFrom: string | null;
}

export interface AccessFlags {
  server: string | undefined;
  token: string | undefined;
}

interface ClientFile {
  path: string;
  server: string | undefined;
  token: string | undefined;
}

/** Where `builder server` listens when nobody said otherwise. */
const SERVER_DEFAULT = 'http://127.0.0.1:8420';

/** A file's token goes to that file's server alone: another server that a flag names must not get to see it. */
export function findAccess(flags: AccessFlags, io: Pick<Io, 'cwd' | 'environment'>): Access {
  const environment = io.environment();
  const server = flags.server ?? environment.server;
  const token = flags.token ?? environment.token;
  const file = server !== undefined && token !== undefined ? null : nearestClientFile(io.cwd, environment.configHome);
  const code: ErrorCode = flags.server === undefined ? 'bad-config' : 'usage';
  const serverFrom =
    flags.server !== undefined ? '--server' : environment.server !== undefined ? 'BUILDER_SERVER' : (file?.path ?? 'client.json');
  const chosen = checkServer(server ?? file?.server ?? SERVER_DEFAULT, serverFrom, code);
  if (token !== undefined) {
    const tokenFrom = flags.token === undefined ? 'BUILDER_TOKEN' : '--token';
    return { server: chosen, token: checkToken(token, tokenFrom, flags.token === undefined ? 'bad-config' : 'usage'), tokenFrom };
  }
  if (file?.token === undefined || file.server === undefined || checkServer(file.server, file.path, 'bad-config') !== chosen) {
    return { server: chosen, token: undefined, tokenFrom: null };
  }
  return { server: chosen, token: checkToken(file.token, file.path, 'bad-config'), tokenFrom: file.path };
}

/** `.builder/client.json` in a folder or the nearest one above it, else the user's own; null where there is none. */
export function nearestClientFile(cwd: string, configHome: string): ClientFile | null {
  for (let folder = cwd; ; folder = dirname(folder)) {
    const found = readClientFile(join(folder, '.builder', 'client.json'));
    if (found !== null) return found;
    if (dirname(folder) === folder) break;
  }
  return readClientFile(join(configHome, 'builder', 'client.json'));
}

function readClientFile(path: string): ClientFile | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new BuilderError('bad-config', `expected a readable file, got ${path} (${oneLine(cause)})`, { cause });
  }
  const value = parseObject(text);
  if (value === null) throw new BuilderError('bad-config', `${path}: expected {"server": URL, "token": T}, got something else`);
  const member = (name: string): string | undefined => {
    const one = value[name];
    if (one !== undefined && typeof one !== 'string') throw new BuilderError('bad-config', `${path}: expected a text as ${name}`);
    return one;
  };
  return { path, server: member('server'), token: member('token') };
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function checkServer(text: string, from: string, code: ErrorCode): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (
    url === null ||
    !/^https?:$/.test(url.protocol) ||
    url.username !== '' ||
    url.password !== '' ||
    url.search !== '' ||
    url.hash !== ''
  ) {
    throw new BuilderError(code, `${from}: expected a URL such as ${SERVER_DEFAULT}, got ${JSON.stringify(redacted(text))}`);
  }
  return url.href.replace(/\/+$/, '');
}

/** A URL with a password in it is refused; the message must not show the password. */
function redacted(text: string): string {
  return text.replace(/\/\/[^/@]*@/, '//…@');
}

function checkToken(token: string, from: string, code: ErrorCode): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new BuilderError(code, `${from}: expected a token of printable characters without spaces, got something else`);
}
