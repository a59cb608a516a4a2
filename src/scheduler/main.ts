/** Program 1: the server. It answers producers, submits what is due, looks for runs that nobody works on. */
import { parseArgs } from 'node:util';
import { openStore } from '../artifacts/open-store.ts';
import { storeScript } from '../artifacts/script.ts';
import type { Store } from '../artifacts/store.ts';
import { InvalidValue } from '../job/invalid-value.ts';
import { sealLog } from '../logs/seal.ts';
import { createWakeUps } from '../logs/wake-ups.ts';
import { openQueues, type Queues } from '../queue/queues.ts';
import { startServerDuties } from '../queue/server-duties.ts';
import { connect, waitForRedis } from '../redis/connection.ts';
import { readServerConfig, type ServerConfig } from '../service/config.ts';
import { asBuilderError, BuilderError, oneLine } from '../service/errors.ts';
import { collectLessOften } from '../service/garbage.ts';
import { aborted, createLifecycle } from '../service/lifecycle.ts';
import { createLogger } from '../service/logger.ts';
import { version } from '../service/version.ts';
import { createAccess } from './access.ts';
import { createApp } from './app.ts';
import { attemptState } from './run-log.ts';

const HELP = `builder server

Answers producers over HTTP, submits what is due, looks after runs whose worker died. Any number may run against one Redis and
one store. Configured by environment: BUILDER_REDIS_URL, BUILDER_STORE, BUILDER_S3_…, BUILDER_HOST, BUILDER_PORT,
BUILDER_ALLOWED_HOSTS, BUILDER_BOOTSTRAP_TOKEN, BUILDER_LOG_LEVEL; each also as …_FILE.`;

collectLessOften();
try {
  if (!helped(process.argv.slice(3))) await serve(readServerConfig());
} catch (thrown) {
  const error = asBuilderError(thrown);
  process.send?.({ failed: error.message, exitCode: error.exitCode });
  process.stderr.write(`builder server: ${error.message}\n`);
  process.exit(error.exitCode);
}
process.exit(0);

async function serve(config: ServerConfig): Promise<void> {
  const logger = createLogger('server', config.logLevel);
  const life = createLifecycle(logger);
  process.on('disconnect', () => {
    life.stop('the program that started it is gone');
    life.stop('the program that started it is gone');
  });
  try {
    const queues: Queues = openQueues({ redisUrl: config.redisUrl, logger, sealLog: (log) => sealLog(queues.redis, store, log) });
    life.onRelease('queues', queues.close);
    const found = await Promise.race([findStore(config, queues), aborted(life.draining)]);
    // Told to stop before it serves: there is nothing to drain.
    if (found === undefined) return;
    const store: Store = found;
    life.onRelease('store', () => store.close());
    const wakeUps = createWakeUps(connect(config.redisUrl, 'patient'), queues.redis);
    life.onRelease('wake-ups', wakeUps.close);
    const scripts = (text: string) => storeScript(store, text);
    const duties = startServerDuties({ queues, storeScript: scripts });
    life.onRelease('duties', duties.close);
    const app = await createApp({
      config,
      queues,
      store,
      logs: { redis: queues.redis, store, wakeUps, endOf: (log) => attemptState(queues, log) },
      storeScript: scripts,
      access: createAccess({ redis: queues.redis, bootstrapToken: config.bootstrapToken }),
      logger,
      stopping: life.draining,
    });
    life.forcing.addEventListener('abort', () => app.server.closeAllConnections());
    life.onRelease('http', () => app.close());
    const url = await listen(app, config);
    logger.info({ url }, 'serves');
    process.send?.({ ready: true, url });
    await aborted(life.draining);
    logger.info({ reason: life.draining.reason }, 'stops');
  } finally {
    await life.release();
  }
}

/** Waits for Redis first, whose absence is told in time. */
async function findStore(config: ServerConfig, queues: Queues): Promise<Store> {
  await waitForRedis(queues.redis, config.redisUrl);
  return openStore(config.store);
}

/** Resolves with the URL under which it serves; throws `bad-config` for an address that cannot be listened on. */
async function listen(app: Awaited<ReturnType<typeof createApp>>, { host, port }: ServerConfig): Promise<string> {
  try {
    await app.listen({ host, port });
  } catch (cause) {
    const why = /EADDRINUSE/.test(oneLine(cause)) ? 'it is in use' : oneLine(cause);
    throw new BuilderError(
      'bad-config',
      `expected an address to listen on (BUILDER_HOST, BUILDER_PORT), got ${host} port ${port}: ${why}`,
      { cause },
    );
  }
  const address = app.server.address();
  const taken = typeof address === 'object' && address !== null ? address.port : port;
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  return `http://${name}:${taken}`;
}

function helped(args: string[]): boolean {
  const { values } = parse(args);
  if (values.help) process.stdout.write(`${HELP}\n`);
  else if (values.version) process.stdout.write(`${version()}\n`);
  return values.help === true || values.version === true;
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: { help: { type: 'boolean' }, version: { type: 'boolean' }, json: { type: 'boolean' } } });
  } catch (cause) {
    throw new InvalidValue(`${cause instanceof Error ? cause.message.split('.')[0] : 'wrong usage'} (see builder server --help)`);
  }
}
