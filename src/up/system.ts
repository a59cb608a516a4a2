/** The programs of `up`: started, restarted when they die, ended in reverse. */
import { fileURLToPath, pathToFileURL } from 'node:url';
import { limits } from '../job/limits.ts';
import { inheritedEnvironment } from '../service/config.ts';
import { BuilderError } from '../service/errors.ts';
import { aborted, type Lifecycle, pause } from '../service/lifecycle.ts';
import type { Logger } from '../service/logger.ts';
import { isAlive } from '../service/process-identity.ts';
import { type Child, type ChildOptions, startChild } from './child.ts';
import type { DataFolder } from './data-folder.ts';
import { endOrphanedRedis, REDIS_URL, redisAnswers, redisCommand } from './redis-program.ts';

export interface SystemOptions {
  data: DataFolder;
  host: string;
  port: number;
  platforms: string[];
  concurrency: number;
  sandbox: string;
  /** Variables for the worker alone. */
  secrets: Record<string, string>;
  logger: Logger;
  life: Lifecycle;
}

const BUILDER = fileURLToPath(new URL('../../../bin/builder', import.meta.url));
/** How long a program may take beyond what it waits for before it is killed. */
const END_MS = 5_000;
/** Scripts may finish, then are ended, and what they said is stored. */
const WORKER_END_MS = limits.upDrainMs + limits.forcedEndMs + END_MS;

/** Resolves when all serve; throws what the first program that cannot start said. */
export async function startSystem(o: SystemOptions): Promise<{ url: string; sandbox: string }> {
  const { data, life, logger } = o;
  await awaitOrphans(data);
  const base = { cwd: data.path, logger };
  const inherited = inheritedEnvironment();
  const env = { ...inherited, BUILDER_REDIS_URL: REDIS_URL, BUILDER_STORE: pathToFileURL(data.store).href };
  const start = (name: string, command: string[], given: Pick<ChildOptions, 'env' | 'tells' | 'goWhen'>): Child =>
    startChild({ ...base, ...given, name, command, logFile: data.logFile(name), started: (pid) => data.remember(name, pid) });

  const redis = start('redis', redisCommand(inherited.PATH ?? ''), { env: inherited, tells: false });
  life.onRelease('redis', () => redis.stop(END_MS));
  await redisServes(redis);

  const address: Record<string, string> = {
    ...env,
    BUILDER_HOST: o.host,
    BUILDER_PORT: String(o.port),
    BUILDER_BOOTSTRAP_TOKEN_FILE: data.tokenFile,
  };
  const server = start('server', [process.execPath, BUILDER, 'server'], { env: address, tells: true });
  life.onRelease('server', () => server.stop(END_MS));
  const flags = [
    ...o.platforms.flatMap((platform) => ['--platform', platform]),
    '--concurrency',
    String(o.concurrency),
    '--sandbox',
    o.sandbox,
    '--held',
  ];
  // Both load at once, but no run is started by a system that cannot serve.
  const worker = start('worker', [process.execPath, BUILDER, 'worker', ...flags], {
    env: { ...env, ...o.secrets, BUILDER_WORK_DIR: data.work },
    tells: true,
    goWhen: server.ready,
  });
  life.onRelease('worker', () => drain(worker, life), WORKER_END_MS + END_MS);
  const url = String((await server.ready).url);
  // A free port was taken once; a server that is started again serves where its producers know it.
  address.BUILDER_PORT = new URL(url).port || address.BUILDER_PORT || '';
  const sandbox = String((await worker.ready).sandbox);
  return { url, sandbox };
}

/** Scripts may finish for a while, or until somebody presses again; then the worker puts them back. */
async function drain(worker: Child, life: Lifecycle): Promise<void> {
  const force = setTimeout(() => worker.signal('SIGTERM'), limits.upDrainMs);
  aborted(life.forcing).then(() => worker.signal('SIGTERM'));
  await worker.stop(WORKER_END_MS);
  clearTimeout(force);
}

/** Waits for Redis to have read its files, however long that takes, unless it ends. */
async function redisServes(redis: Child): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([redisAnswers(over.signal), redis.ready]);
  } finally {
    over.abort();
  }
}

/** Programs of an `up` that was killed end when they notice; they hold its port and its work folder till then. */
async function awaitOrphans(data: DataFolder): Promise<void> {
  await endOrphanedRedis(AbortSignal.timeout(2 * END_MS));
  const deadline = AbortSignal.timeout(2 * END_MS);
  for (const orphan of await data.orphans()) {
    while ((await isAlive(orphan)) && !deadline.aborted) await pause(50, deadline);
    if (!(await isAlive(orphan))) continue;
    try {
      process.kill(Number(orphan.split(' ')[0]), 'SIGKILL');
    } catch (cause) {
      throw new BuilderError('bad-config', `expected process ${orphan.split(' ')[0]} of an earlier up to end, got one that lives on`, {
        cause,
      });
    }
  }
}
