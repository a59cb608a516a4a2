/** The faults of a chaos run, and keeping alive what they kill. */
import { renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import type { Pool, WorkerOptions } from '../support/pool.ts';
import type { Program } from '../support/system.ts';
import { between, oneOf } from './jobs.ts';

export interface Member {
  name: string;
  program: Program;
  url: string;
}

export interface Troop {
  servers: Member[];
  workers: Member[];
  /** Starts what died again, one after the other, until told to end; then all of it runs. */
  end(): Promise<void>;
}

/** Two servers and three workers that are started again whenever they die. */
export async function startTroop(pool: Pool, ports: number[], sandboxes: NonNullable<WorkerOptions['sandbox']>[]): Promise<Troop> {
  let ended = false;
  const starts: (() => Promise<void>)[] = [];
  const keeping: Promise<void>[] = [];
  const keep = async (member: Member, start: () => Promise<Pick<Member, 'program' | 'url'>>): Promise<void> => {
    Object.assign(member, await start());
    const isDead = (): boolean => member.program.child.exitCode !== null || member.program.child.signalCode !== null;
    starts.push(async () => (isDead() ? void Object.assign(member, await start()) : undefined));
    const loop = async (): Promise<void> => {
      while (!ended) {
        await Promise.race([member.program.ended, pauseOf(200)]);
        // A start while Redis is away fails, as it would under systemd: again.
        if (!ended && isDead()) await start().then((next) => Object.assign(member, next), tell);
      }
    };
    keeping.push(loop());
  };
  const member = (name: string): Member => ({ name, program: null as unknown as Program, url: '' });
  const servers = ports.map((port) => member(`server-${port}`));
  const workers = sandboxes.map((_, index) => member(`worker-${index + 1}`));
  for (const [index, server] of servers.entries()) await keep(server, () => pool.startServer(ports[index]));
  for (const [index, worker] of workers.entries()) {
    const sandbox = sandboxes[index] ?? 'none';
    const env = { BUILDER_STORE: `file://${pool.folder.path}/store-link` };
    await keep(worker, async () => ({ program: await pool.startWorker(worker.name, { sandbox, concurrency: 3, env }), url: '' }));
  }
  return {
    servers,
    workers,
    end: async () => {
      ended = true;
      await Promise.all(keeping);
      for (const start of starts) await start();
    },
  };
}

export function linkStore(pool: Pool): void {
  symlinkSync(pool.storePath, `${pool.folder.path}/store-link`);
}

type Fault = (pool: Pool, troop: Troop, random: () => number) => Promise<void>;

const FAULTS: Record<string, Fault> = {
  'kill -9 of a worker': async (_, troop, random) => void oneOf(random, troop.workers).program.child.kill('SIGKILL'),
  'kill -9 of a server': async (_, troop, random) => void oneOf(random, troop.servers).program.child.kill('SIGKILL'),
  'a worker suspended': (_, troop, random) => suspend(oneOf(random, troop.workers), between(random, 500, 18_000)),
  'a server suspended': (_, troop, random) => suspend(oneOf(random, troop.servers), between(random, 500, 6_000)),
  'kill -9 of Redis': async (pool, _, random) => {
    await pool.redis.kill();
    await pauseOf(between(random, 100, 2_000));
    await pool.redis.start();
  },
  'Redis suspended': async (pool, _, random) => {
    const { pid } = pool.redis;
    process.kill(pid, 'SIGSTOP');
    await pauseOf(between(random, 500, 14_000));
    process.kill(pid, 'SIGCONT');
  },
  'Redis refuses workers': (pool, _, random) => proxied(pool.workersProxy, 'refuse', between(random, 500, 5_000)),
  'Redis refuses servers': (pool, _, random) => proxied(pool.serversProxy, 'refuse', between(random, 500, 5_000)),
  'packets of workers swallowed': (pool, _, random) => proxied(pool.workersProxy, 'swallow', between(random, 1_000, 14_000)),
  'packets of servers swallowed': (pool, _, random) => proxied(pool.serversProxy, 'swallow', between(random, 1_000, 14_000)),
  'Redis slow': (pool, _, random) => proxied(pool.workersProxy, between(random, 10, 300), between(random, 1_000, 4_000)),
  'connections reset': async (pool) => {
    pool.workersProxy.reset();
    pool.serversProxy.reset();
  },
  'store away from workers': async (pool, _, random) => {
    const link = `${pool.folder.path}/store-link`;
    renameSync(link, `${link}-away`);
    writeFileSync(link, 'no folder');
    await pauseOf(between(random, 500, 5_000));
    unlinkSync(link);
    renameSync(`${link}-away`, link);
  },
};

export const FAULT_KINDS = Object.keys(FAULTS);

/** Resolves when the fault is over. */
export async function doFault(kind: string, pool: Pool, troop: Troop, random: () => number): Promise<void> {
  await FAULTS[kind]?.(pool, troop, random);
}

async function suspend({ program }: Member, forMs: number): Promise<void> {
  program.child.kill('SIGSTOP');
  await pauseOf(forMs);
  program.child.kill('SIGCONT');
}

async function proxied(proxy: Pool['workersProxy'], mode: Parameters<Pool['workersProxy']['set']>[0], forMs: number): Promise<void> {
  await proxy.set(mode);
  await pauseOf(forMs);
  await proxy.set('pass');
}

export function pauseOf(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function tell(cause: unknown): void {
  process.stderr.write(`chaos: a start failed: ${(cause as Error).message.slice(0, 300)}\n`);
}
