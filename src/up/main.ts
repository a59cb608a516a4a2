/** Program `up`: Redis, storage, server and one worker on one machine, kept in one folder. */
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { InvalidValue } from '../job/invalid-value.ts';
import { checkName } from '../job/names.ts';
import { clientConfigHome, secretVariables } from '../service/config.ts';
import { asBuilderError, BuilderError } from '../service/errors.ts';
import { aborted, createLifecycle } from '../service/lifecycle.ts';
import { createLogger } from '../service/logger.ts';
import { makeFolder } from '../service/make-folder.ts';
import { version } from '../service/version.ts';
import { openDataFolder, writeWhole } from './data-folder.ts';
import { platformOfMachine } from './platform.ts';
import { startSystem } from './system.ts';

const HELP = `builder up [--data DIR] [--port N] [--host H] [--platform P]… [--concurrency N] [--sandbox auto|bwrap|unshare|none]

Redis, storage, server and one worker in the foreground, on this machine. What is kept lies in DIR; up on the same DIR
after a crash goes on where it was. DIR/client.json tells the producer's commands where the server is.

  --data DIR        default: .builder
  --port N          of the server; 0 takes a free one (default: 8420)
  --host H          address to listen on (default: 127.0.0.1)
  --platform P      what this machine builds on; may be given several times (default: debian-12 on Debian 12)
  --concurrency N   how many scripts at a time (default: the number of cores); what one left is stored beside the next
  --sandbox S       auto takes the best that works here (default)

BUILDER_SECRET_NAME, or BUILDER_SECRET_NAME_FILE, in its environment gives its worker a secret for runs with --secret NAME.

Ctrl-C stops it: scripts that run may finish within ten seconds, then they go back to the queue. A second one does so at once.`;

const PORT = 8420;
const SANDBOXES = ['auto', 'bwrap', 'unshare', 'none'];

interface Flags {
  data: string;
  port: number;
  host: string;
  platforms: string[];
  concurrency: number;
  sandbox: string;
}

try {
  const flags = await readFlags(process.argv.slice(3));
  if (flags !== null) await up(flags);
} catch (thrown) {
  const error = asBuilderError(thrown);
  process.stderr.write(`builder up: ${error.message}\n`);
  process.exit(error.exitCode);
}
process.exit(0);

async function up(flags: Flags): Promise<void> {
  const logger = createLogger('up', 'warn');
  const life = createLifecycle(logger);
  // Read before the folder is changed: they may name files relative to it.
  const secrets = secretVariables();
  const data = await openDataFolder(flags.data);
  let served = false;
  life.onRelease('data folder', () => data.release({ served }));
  try {
    // The programs name Redis's socket relative to it.
    process.chdir(data.path);
    const configFolder = join(clientConfigHome(), 'builder');
    // Before a script runs: its sandbox hides what is there. Where it cannot be made, that is told below.
    await makeFolder(configFolder, 0o700).catch(() => undefined);
    const system = await Promise.race([startSystem({ ...flags, secrets, data, logger, life }), aborted(life.draining)]);
    if (system === undefined) return;
    served = true;
    const client = `${JSON.stringify({ server: system.url, token: data.token })}\n`;
    await writeWhole(join(data.path, 'client.json'), client);
    await writeWhole(join(configFolder, 'client.json'), client).catch((cause: Error) =>
      logger.warn(
        { error: cause.message },
        'the client configuration of this user could not be written; use --server and --token elsewhere',
      ),
    );
    process.stdout.write(
      `builder serves ${system.url} (platform ${flags.platforms.join(', ')}; sandbox ${system.sandbox}; data in ${data.path}); Ctrl-C stops it\n`,
    );
    await aborted(life.draining);
  } finally {
    await life.release();
  }
}

async function readFlags(args: string[]): Promise<Flags | null> {
  const { values } = parse(args);
  if (values.help || values.version) {
    process.stdout.write(values.help ? `${HELP}\n` : `${version()}\n`);
    return null;
  }
  const platforms = (values.platform ?? []).map((platform) => checkName('platform', platform));
  if (values.data === '') throw new BuilderError('usage', 'expected --data DIR, got nothing');
  const sandbox = values.sandbox ?? 'auto';
  if (!SANDBOXES.includes(sandbox)) throw new BuilderError('usage', `expected --sandbox ${SANDBOXES.join(', ')}, got ${sandbox}`);
  return {
    data: values.data ?? '.builder',
    port: integer('--port', values.port, { fallback: PORT, min: 0, max: 65_535 }),
    host: values.host ?? '127.0.0.1',
    platforms: platforms.length === 0 ? [await platformOfMachine()] : [...new Set(platforms)],
    concurrency: integer('--concurrency', values.concurrency, { fallback: cpus().length, min: 1, max: 10_000 }),
    sandbox,
  };
}

function integer(flag: string, text: string | undefined, o: { fallback: number; min: number; max: number }): number {
  if (text === undefined) return o.fallback;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= o.min && value <= o.max))
    throw new BuilderError('usage', `expected ${flag} of ${o.min} to ${o.max}, got ${JSON.stringify(text)}`);
  return value;
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        data: { type: 'string' },
        port: { type: 'string' },
        host: { type: 'string' },
        platform: { type: 'string', multiple: true },
        concurrency: { type: 'string' },
        sandbox: { type: 'string' },
        help: { type: 'boolean' },
        version: { type: 'boolean' },
        json: { type: 'boolean' },
      },
    });
  } catch (cause) {
    throw new InvalidValue(`${cause instanceof Error ? cause.message.split('.')[0] : 'wrong usage'} (see builder up --help)`);
  }
}
