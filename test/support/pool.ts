/** A pool of a test: servers and workers as real programs, with a proxy between each kind and Redis. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '../../src/job/run.ts';
import { connect, type Redis } from '../../src/redis/connection.ts';
import { freePorts } from './free-ports.ts';
import { ask } from './http.ts';
import { startRedis, type TestRedis } from './redis.ts';
import { type Program, startProgram } from './system.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';
import { type TempFolder, tempFolder } from './temp.ts';
import { until } from './until.ts';

const TOKEN = 'a-bootstrap-token-of-a-test';

export interface Pool {
  folder: TempFolder;
  redis: TestRedis;
  /** Before Redis itself, past every proxy. */
  client: Redis;
  /** Between the workers and Redis. */
  workersProxy: TcpProxy;
  /** Between the servers and Redis. */
  serversProxy: TcpProxy;
  storePath: string;
  access: { url: string; token: string };
  /** The one that `api` asks. */
  server: Program;
  workers: Map<string, Program>;
  /** Starts a worker of the platform `test`, through a proxy of its own where one is given. */
  startWorker(name: string, o?: WorkerOptions): Promise<Program>;
  startServer(port?: number, more?: Record<string, string>): Promise<{ program: Program; url: string }>;
  submit(script: string, o?: object): Promise<string>;
  run(id: string): Promise<Run>;
  running(id: string): Promise<Run>;
  finished(id: string, deadlineMs?: number): Promise<Run>;
  log(id: string, query?: string): Promise<string>;
  /** Lines that its programs wrote to stderr, dead ones too, that hold a text. */
  told(text: string): string[];
  api(path: string, o?: { method?: string; body?: object | Buffer; headers?: Record<string, string> }): ReturnType<typeof ask>;
  stop(): Promise<void>;
}

export interface WorkerOptions {
  proxy?: TcpProxy;
  concurrency?: number;
  sandbox?: 'auto' | 'none';
  workDir?: string;
  /** Default: `test`. */
  platforms?: string[];
  env?: Record<string, string>;
}

export interface PoolOptions {
  workers?: string[];
  storePath?: string;
  /** The variables that name another store than a folder. */
  store?: Record<string, string>;
  /** Further variables of Redis, and of the first server. */
  redis?: Record<string, string>;
  server?: Record<string, string>;
}

export async function startPool(o: PoolOptions = {}): Promise<Pool> {
  const folder = tempFolder();
  const [redisPort = 0] = await freePorts(1);
  const redis = await startRedis(redisPort, o.redis);
  const client = connect(redis.url, 'command');
  const workersProxy = await startTcpProxy(redisPort);
  const serversProxy = await startTcpProxy(redisPort);
  const storePath = o.storePath ?? `${folder.path}/store`;
  mkdirSync(`${folder.path}/work`);
  writeFileSync(`${folder.path}/token`, `${TOKEN}\n`);
  const programs: Program[] = [];
  const workers = new Map<string, Program>();
  const store = o.store ?? { BUILDER_STORE: `file://${storePath}` };
  const env = { ...store, BUILDER_BOOTSTRAP_TOKEN_FILE: `${folder.path}/token`, BUILDER_LOG_LEVEL: 'debug' };
  const redisAt = (proxy: TcpProxy): { BUILDER_REDIS_URL: string } => ({ BUILDER_REDIS_URL: `redis://127.0.0.1:${proxy.port}` });
  const access = { url: '', token: TOKEN };
  const startServer: Pool['startServer'] = async (port = 0, more = {}) => {
    const program = startProgram(['server'], { env: { ...env, ...redisAt(serversProxy), BUILDER_PORT: String(port), ...more } });
    programs.push(program);
    const url = await until(() => urlOf(program), 'the server to serve');
    return { program, url };
  };
  const startWorker: Pool['startWorker'] = async (name, w = {}) => {
    const place = { BUILDER_WORK_DIR: w.workDir ?? `${folder.path}/work` };
    const platforms = (w.platforms ?? ['test']).flatMap((platform) => ['--platform', platform]);
    const flags = ['--name', name, '--concurrency', String(w.concurrency ?? 2), '--sandbox', w.sandbox ?? 'none', ...platforms];
    const program = startProgram(['worker', ...flags], { env: { ...env, ...place, ...redisAt(w.proxy ?? workersProxy), ...w.env } });
    programs.push(program);
    workers.set(name, program);
    try {
      await until(() => program.stderr.includes('takes runs') || failed(program), `worker ${name} to take runs`);
    } catch (cause) {
      // Another start would find its name in use.
      program.child.kill('SIGKILL');
      await program.ended;
      throw new Error(`${(cause as Error).message}; it said ${program.stderr.slice(-500)}`);
    }
    return program;
  };
  const api: Pool['api'] = (path, given = {}) => ask(access, `/api/v1${path}`, given);
  const run = async (id: string): Promise<Run> => (await api(`/runs/${id}`)).json;
  const inState = (id: string, state: string, deadlineMs = 60_000): Promise<Run> =>
    until(
      async () => {
        const found = await run(id).catch(() => null);
        return found?.state === state ? found : null;
      },
      `run ${id} to be ${state}`,
      deadlineMs,
    );
  const first = await startServer(0, o.server);
  access.url = first.url;
  for (const name of o.workers ?? ['one']) await startWorker(name);
  return {
    folder,
    redis,
    client,
    workersProxy,
    serversProxy,
    storePath,
    access,
    server: first.program,
    workers,
    startWorker,
    startServer,
    api,
    run,
    submit: async (script, more = {}) => {
      const answer = await api('/runs', { method: 'POST', body: { platform: 'test', script, ...more } });
      if (answer.status !== 201) throw new Error(`submit: ${answer.status} ${answer.text}`);
      return answer.json.id;
    },
    told: (text) => programs.flatMap(({ stderr }) => stderr.split('\n').filter((line) => line.includes(text))),
    running: (id) => inState(id, 'running'),
    finished: (id, deadlineMs) => inState(id, 'finished', deadlineMs),
    log: async (id, query = '') => (await api(`/runs/${id}/log${query}`)).text,
    stop: async () => {
      client.disconnect();
      for (const { child } of programs) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      for (const { ended } of programs) await ended;
      for (const pid of processesOf(folder.path)) process.kill(pid, 'SIGKILL');
      await workersProxy.stop();
      await serversProxy.stop();
      await redis.stop();
      folder.remove();
    },
  };
}

function urlOf(program: Program): string | undefined {
  if (failed(program)) return undefined;
  return /"url":"(http:[^"]+)"/.exec(program.stderr)?.[1];
}

function failed({ child, stderr }: Program): false {
  if (child.exitCode === null && child.signalCode === null) return false;
  throw new Error(`a program ended with ${child.exitCode ?? child.signalCode}: ${stderr.slice(-500)}`);
}

/** Living processes whose environment holds a text, such as the mark of a run or the folder of a worker. */
export function processesOf(text: string): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .map(Number)
    .filter((pid) => {
      try {
        const isZombie = /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
        return !isZombie && pid !== process.pid && readFileSync(`/proc/${pid}/environ`, 'latin1').includes(text);
      } catch {
        return false;
      }
    });
}

/** Folders of attempts that workers have on their disks. */
export function runFolders(pool: Pick<Pool, 'folder'>, name: string): string[] {
  const path = join(pool.folder.path, 'work', name, 'runs');
  return existsSync(path) ? readdirSync(path) : [];
}
