/** Program 3: a worker takes the runs of its platforms, executes them and stores what they leave. */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { openStore } from '../src/artifacts/open-store.ts';
import { parseDuration } from '../src/job/duration.ts';
import { InvalidValue } from '../src/job/invalid-value.ts';
import { limits } from '../src/job/limits.ts';
import { checkName } from '../src/job/names.ts';
import { connect, waitForRedis } from '../src/redis/connection.ts';
import { readWorkerConfig, type WorkerConfig } from '../src/service/config.ts';
import { asBuilderError, BuilderError } from '../src/service/errors.ts';
import { collectLessOften } from '../src/service/garbage.ts';
import { aborted, createLifecycle, pause } from '../src/service/lifecycle.ts';
import { createLogger } from '../src/service/logger.ts';
import { version } from '../src/service/version.ts';
import { createExecutor } from './executor.ts';
import { startHeartbeat } from './heartbeat.ts';
import { hiddenFolders } from './hidden-folders.ts';
import { findCgroups } from './limits/cgroups.ts';
import { createLimiter } from './limits/limiter.ts';
import { createRunFolders } from './run-folder.ts';
import { createRunningRuns } from './running-runs.ts';
import { startSalvage } from './salvage.ts';
import { chooseSandbox } from './sandbox/choose.ts';
import { createSecrets } from './secrets.ts';
import { takeRuns } from './take-runs.ts';
import { takeWorkFolder } from './work-folder.ts';

const HELP = `builder worker --platform P… [--name N] [--concurrency N] [--sandbox auto|bwrap|unshare|none] [--once] [--idle-exit D]

Takes the runs of its platforms from Redis, executes them and stores what they leave. Configured by environment:
BUILDER_REDIS_URL, BUILDER_STORE, BUILDER_S3_…, BUILDER_WORK_DIR, BUILDER_WORKER_NAME, BUILDER_LOG_LEVEL;
BUILDER_SECRET_NAME, or BUILDER_SECRET_NAME_FILE, gives the secret NAME to runs that ask for it.

  --platform P      a platform that it takes runs of; may be given several times
  --name N          its name, unique among the workers (default: the host's name)
  --concurrency N   how many scripts at a time, over all its platforms (default: the number of cores); what
                    one left is stored beside the next
  --sandbox S       auto takes the best that works here (default)
  --once            takes one run, then ends
  --idle-exit D     ends after so long without a run, such as 10m

SIGTERM drains: it takes nothing new and ends when what runs has ended. A second one puts back what runs.`;

/** Under `unshare` scripts reach the worker's part of their folders. */
const AGAIN = { none: 'all', bwrap: 'own', unshare: 'nothing' } as const;
const SANDBOXES = ['auto', 'bwrap', 'unshare', 'none'] as const;

interface Flags {
  platforms: string[];
  name: string | undefined;
  concurrency: number;
  sandbox: (typeof SANDBOXES)[number];
  once: boolean;
  idleExitMs: number | null;
  /** Given by `up`: it gets ready, and takes runs from the message `go` on. */
  held: boolean;
}

collectLessOften();
try {
  const flags = readFlags(process.argv.slice(3));
  if (flags !== null) await work(flags, readWorkerConfig());
} catch (thrown) {
  const error = asBuilderError(thrown);
  process.send?.({ failed: error.message, exitCode: error.exitCode });
  process.stderr.write(`builder worker: ${error.message}\n`);
  process.exit(error.exitCode);
}
process.exit(0);

async function work(flags: Flags, config: WorkerConfig): Promise<void> {
  const logger = createLogger('worker', config.logLevel);
  const life = createLifecycle(logger);
  process.on('disconnect', () => {
    life.stop('the program that started it is gone');
    life.stop('the program that started it is gone');
  });
  const folder = await takeWorkFolder(config.workDir, flags.name ?? config.name, flags.name === undefined);
  life.onRelease('work folder', folder.release);
  for (const one of folder.gone) logger.warn(one, 'the disk is full: removed of a run of a dead worker, for room to start');
  try {
    const redis = connect(config.redisUrl, 'patient');
    const quick = connect(config.redisUrl, 'command');
    const subscriber = connect(config.redisUrl, 'patient');
    life.onRelease('redis', () => [redis, quick, subscriber].forEach((one) => void one.disconnect()));
    await waitForRedis(quick, config.redisUrl);
    const store = await openStore(config.store);
    life.onRelease('store', () => store.close());
    const sandbox = await chooseSandbox(flags.sandbox, folder.path);
    const limiter = createLimiter(findCgroups(), sandbox.name !== 'none');
    const running = createRunningRuns();
    const worker = {
      name: folder.name,
      platforms: flags.platforms,
      concurrency: flags.concurrency,
      version: version(),
      sandbox: sandbox.name,
    };
    const heartbeat = await startHeartbeat({ redis: quick, subscriber, worker, running, logger });
    life.onRelease('heartbeat', heartbeat.close);
    const context = {
      redis,
      store,
      execute: createExecutor(sandbox),
      limiter,
      running,
      folders: createRunFolders(folder.path, AGAIN[sandbox.name]),
      workerName: folder.name,
      hide: hiddenFolders(config),
      secrets: createSecrets(config.secrets),
      logger,
      draining: life.draining,
      toldAtMs: life.toldAtMs,
      forcing: life.forcing,
    };
    // Told to stop before it takes anything: there is nothing to drain.
    if (flags.held && !(await toldToGo(life.draining))) return;
    const taking = takeRuns({ ...flags, worker: context, onEnough: life.stop });
    const salvage = startSalvage({ left: folder.left, redis: quick, store, logger, until: life.draining });
    life.onRelease('salvage', salvage.close);
    logger.info({ ...worker, limits: limiter.described }, 'takes runs');
    process.send?.({ ready: true, sandbox: sandbox.name });
    await aborted(life.draining);
    logger.info({ running: running.ids().length, reason: life.draining.reason }, 'drains');
    // Redis may be gone for good: then nothing can be put back, and servers find the runs when their locks have run out.
    const late = aborted(life.forcing).then(() => pause(limits.forcedEndMs, new AbortController().signal));
    await Promise.race([taking.close().then(context.folders.settled), late]);
  } finally {
    await life.release();
  }
}

/** Waits for the word of the program that started it; false when it shall stop instead. */
async function toldToGo(stop: AbortSignal): Promise<boolean> {
  await Promise.race([aborted(stop), new Promise((resolve) => process.once('message', resolve))]);
  return !stop.aborted;
}

function readFlags(args: string[]): Flags | null {
  const { values } = parse(args);
  if (values.help) process.stdout.write(`${HELP}\n`);
  else if (values.version) process.stdout.write(`${version()}\n`);
  if (values.help || values.version) return null;
  const platforms = [...new Set(values.platform ?? [])].map((platform) => checkName('platform', platform));
  if (platforms.length === 0) throw new BuilderError('usage', 'expected --platform P at least once, got none');
  const concurrency = Number(values.concurrency ?? cpus().length);
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > 10_000) {
    throw new BuilderError('usage', `expected --concurrency of 1 to 10000, got ${values.concurrency}`);
  }
  const idleExitMs = values['idle-exit'] === undefined ? null : parseDuration(values['idle-exit']);
  const sandbox = SANDBOXES.find((one) => one === (values.sandbox ?? 'auto'));
  if (sandbox === undefined) throw new BuilderError('usage', `expected --sandbox ${SANDBOXES.join(', ')}, got ${values.sandbox}`);
  return {
    platforms,
    name: values.name === undefined ? undefined : checkName('worker', values.name),
    concurrency,
    sandbox,
    once: values.once === true,
    idleExitMs,
    held: values.held === true && process.send !== undefined,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        platform: { type: 'string', multiple: true },
        name: { type: 'string' },
        concurrency: { type: 'string' },
        sandbox: { type: 'string' },
        once: { type: 'boolean' },
        'idle-exit': { type: 'string' },
        held: { type: 'boolean' },
        help: { type: 'boolean' },
        version: { type: 'boolean' },
        json: { type: 'boolean' },
      },
    });
  } catch (cause) {
    throw new InvalidValue(`${cause instanceof Error ? cause.message.split('.')[0] : 'wrong usage'} (see builder worker --help)`);
  }
}
