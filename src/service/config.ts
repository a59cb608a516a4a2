/** Configuration of the programs: the one reader of the environment. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { limits } from '../job/limits.ts';
import { ENV_NAME_PATTERN, SECRET_CHARS_MIN } from '../job/names.ts';
import { BuilderError, oneLine } from './errors.ts';

export type StoreConfig =
  | { kind: 'folder'; path: string }
  | { kind: 's3'; bucket: string; endpoint: string; region: string; accessKey: string; secretKey: string };

export interface CommonConfig {
  redisUrl: string;
  store: StoreConfig;
  logLevel: string;
}

export interface ServerConfig extends CommonConfig {
  host: string;
  port: number;
  bootstrapToken: string | null;
  /** Host headers that are served beside localhost and IP addresses. */
  allowedHosts: string[];
}

export interface WorkerConfig extends CommonConfig {
  /** Holds the runs' folders; what lies in it belongs to this worker. */
  workDir: string;
  name: string;
  /** By their names, as runs ask for them. */
  secrets: ReadonlyMap<string, string>;
  /** What was read by a variable with `_FILE`, secrets of runs and of the worker's own: no script is to see these files. */
  secretFiles: string[];
}

export interface ClientEnvironment {
  server: string | undefined;
  token: string | undefined;
  configHome: string;
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const TOKEN_CHARS_MIN = 16;
const SECRET_PREFIX = 'BUILDER_SECRET_';
const FILE_SUFFIX = '_FILE';

/** Reads variables and collects what is wrong with them, so that one error names every bad one. */
class Variables {
  private readonly env: NodeJS.ProcessEnv;
  readonly faults: string[] = [];
  /** Those read by `NAME_FILE`, by absolute paths. */
  readonly files = new Set<string>();

  constructor(env: NodeJS.ProcessEnv) {
    this.env = env;
  }

  /** `NAME`, or the content of the file that `NAME_FILE` names, without its last newline. */
  text(name: string): string | undefined {
    const file = this.env[`${name}_FILE`];
    if (file === undefined) return this.env[name];
    this.files.add(resolve(file));
    try {
      return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
    } catch (cause) {
      this.faults.push(`${name}_FILE: expected a readable file, got ${file} (${oneLine(cause)})`);
      return undefined;
    }
  }

  checked<T>(name: string, fallback: T | undefined, parse: (text: string) => T | undefined, expected: string): T {
    const text = this.text(name);
    if (text === undefined || text === '') {
      if (fallback === undefined && this.env[`${name}_FILE`] === undefined) this.faults.push(`${name}: expected ${expected}, got nothing`);
      return fallback as T;
    }
    const value = parse(text);
    if (value === undefined) this.faults.push(`${name}: expected ${expected}, got ${JSON.stringify(text)}`);
    return value as T;
  }

  secret(name: string, expected: string, accept: (text: string) => boolean): string {
    const text = this.text(name);
    if (text === undefined || !accept(text))
      this.faults.push(`${name}: expected ${expected}, got ${text === undefined ? 'nothing' : 'something else'}`);
    return text ?? '';
  }
}

export function readServerConfig(env: NodeJS.ProcessEnv = process.env): ServerConfig {
  const from = new Variables(env);
  const common = readCommon(from);
  const bootstrap = from.text('BUILDER_BOOTSTRAP_TOKEN');
  const config = {
    ...common,
    host: from.checked('BUILDER_HOST', '127.0.0.1', (text) => text, 'a host name or address'),
    port: from.checked('BUILDER_PORT', 8420, parsePort, 'a port from 0 to 65535'),
    bootstrapToken:
      bootstrap === undefined || bootstrap === ''
        ? null
        : from.secret(
            'BUILDER_BOOTSTRAP_TOKEN',
            `a token of at least ${TOKEN_CHARS_MIN} characters without spaces`,
            (text) => text.length >= TOKEN_CHARS_MIN && /^[\x21-\x7e]+$/.test(text),
          ),
    allowedHosts: (from.text('BUILDER_ALLOWED_HOSTS') ?? '')
      .split(',')
      .map((host) => host.trim().toLowerCase())
      .filter((host) => host !== ''),
  };
  refuse(from.faults);
  return config;
}

export function readWorkerConfig(env: NodeJS.ProcessEnv = process.env): WorkerConfig {
  const from = new Variables(env);
  const common = readCommon(from);
  const config = {
    ...common,
    workDir: from.checked(
      'BUILDER_WORK_DIR',
      `/var/tmp/builder-${process.getuid?.() ?? 0}`,
      (text) => (text.startsWith('/') ? text : undefined),
      'an absolute path',
    ),
    name: from.checked('BUILDER_WORKER_NAME', defaultWorkerName(), (text) => text, 'a name'),
    secrets: takeSecrets(from, env),
    secretFiles: [...from.files],
  };
  refuse(from.faults);
  return config;
}

/** The variables that give secrets, for a worker that is started by this program; files are named by absolute paths. */
export function secretVariables(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const given = Object.entries(env).filter(([name, value]) => value !== undefined && name.startsWith(SECRET_PREFIX));
  return Object.fromEntries(given.map(([name, value = '']) => [name, name.endsWith(FILE_SUFFIX) ? resolve(value) : value]));
}

/** What the command line reads of the environment; the producer holds no other configuration. */
export function readClientEnvironment(env: NodeJS.ProcessEnv = process.env): ClientEnvironment {
  const from = new Variables(env);
  const client = {
    server: from.text('BUILDER_SERVER') || undefined,
    token: from.text('BUILDER_TOKEN') || undefined,
    configHome: clientConfigHome(env),
  };
  refuse(from.faults);
  return client;
}

/** Where a user's configuration lies (the XDG base directory specification). */
export function clientConfigHome(env: NodeJS.ProcessEnv = process.env): string {
  return env.XDG_CONFIG_HOME || `${env.HOME || '/'}/.config`;
}

/** Colour is for terminals, and never under NO_COLOR (no-color.org). */
export function wantsColour(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv = process.env): boolean {
  return stream.isTTY === true && (env.NO_COLOR === undefined || env.NO_COLOR === '');
}

/** What a program that is started for somebody (Redis, server, worker, sandbox) inherits: no BUILDER_ variable, no secret. */
export function inheritedEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const kept = Object.entries(env).filter(([name, value]) => value !== undefined && !name.startsWith('BUILDER_'));
  return Object.fromEntries(kept) as Record<string, string>;
}

/** Takes them out of the environment, so that nothing inherits them. Of what is wrong with one, its name is told and never its value. */
function takeSecrets(from: Variables, env: NodeJS.ProcessEnv): Map<string, string> {
  const given = secretVariables(env);
  const secrets = new Map<string, string>();
  for (const variable of Object.keys(given)) {
    const base = variable.endsWith(FILE_SUFFIX) ? variable.slice(0, -FILE_SUFFIX.length) : variable;
    const name = base.slice(SECRET_PREFIX.length);
    const value = from.text(base);
    const fault = value === undefined ? null : secretFault(name, value);
    if (fault !== null && !from.faults.includes(`${base}: ${fault}`)) from.faults.push(`${base}: ${fault}`);
    secrets.set(name, value ?? '');
  }
  for (const variable of Object.keys(given)) delete env[variable];
  return secrets;
}

function secretFault(name: string, value: string): string | null {
  if (!ENV_NAME_PATTERN.test(name) || name.startsWith('BUILDER_') || name.length > limits.secretNameCharsMax)
    return 'expected the name of a secret behind BUILDER_SECRET_';
  if ([...value.trim()].length < SECRET_CHARS_MIN)
    return `expected a secret of at least ${SECRET_CHARS_MIN} characters, since a shorter one cannot be masked, got fewer`;
  if (Buffer.byteLength(value) > limits.secretBytesMax) return `expected a secret of at most ${limits.secretBytesMax} bytes, got more`;
  return value.includes('\0') ? 'expected a secret without NUL' : null;
}

function readCommon(from: Variables): CommonConfig {
  return {
    redisUrl: from.checked('BUILDER_REDIS_URL', 'redis://127.0.0.1:6379', parseRedisUrl, 'redis://HOST:PORT, rediss://… or unix:PATH'),
    store: readStore(from),
    logLevel: from.checked('BUILDER_LOG_LEVEL', 'info', (text) => (LOG_LEVELS.includes(text) ? text : undefined), LOG_LEVELS.join(', ')),
  };
}

function readStore(from: Variables): StoreConfig {
  const store = from.checked('BUILDER_STORE', undefined, parseStore, 's3://BUCKET or file:///FOLDER');
  if (store === undefined || store.kind === 'folder') return store as StoreConfig;
  return {
    ...store,
    endpoint: from.checked('BUILDER_S3_ENDPOINT', undefined, parseHttpUrl, 'a URL such as http://minio:9000'),
    region: from.checked('BUILDER_S3_REGION', 'us-east-1', (text) => text, 'a region'),
    accessKey: from.secret('BUILDER_S3_ACCESS_KEY', 'an access key', (text) => text !== ''),
    secretKey: from.secret('BUILDER_S3_SECRET_KEY', 'a secret key', (text) => text !== ''),
  };
}

function parseStore(text: string): StoreConfig | undefined {
  const bucket = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\/?$/.exec(text)?.[1];
  if (bucket !== undefined) return { kind: 's3', bucket, endpoint: '', region: '', accessKey: '', secretKey: '' };
  if (!text.startsWith('file:///')) return undefined;
  try {
    return { kind: 'folder', path: decodeURIComponent(new URL(text).pathname) };
  } catch {
    return undefined;
  }
}

function parseRedisUrl(text: string): string | undefined {
  if (/^unix:.+/.test(text)) return text;
  return URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol) ? text : undefined;
}

function parseHttpUrl(text: string): string | undefined {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) ? text : undefined;
}

function parsePort(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined;
}

function defaultWorkerName(): string {
  return (
    hostname()
      .toLowerCase()
      .replace(/[^a-z0-9._-]/g, '-')
      .replace(/^[^a-z0-9]+/, '')
      .slice(0, 63) || 'worker'
  );
}

function refuse(faults: string[]): void {
  if (faults.length > 0) throw new BuilderError('bad-config', `bad configuration: ${faults.join('; ')}`);
}
