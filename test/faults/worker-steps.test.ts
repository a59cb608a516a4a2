/** A worker that is killed, or suspended for longer than its lock lives, at each step of a run. */
import { readFileSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Run } from '../../src/job/run.ts';
import { claimScript, commitScript } from '../../src/queue/record-scripts.ts';
import { BULL_PREFIX, bullActiveKey, bullLockKey, keys, runQueue } from '../../src/redis/keys.ts';
import { type Pool, processesOf, runFolders, startPool } from '../support/pool.ts';
import type { Program } from '../support/system.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const SCRIPT = `echo attempt $BUILDER_ATTEMPT begins
echo data of attempt $BUILDER_ATTEMPT > out.txt
if [ $BUILDER_ATTEMPT = 1 ] && [ "$LONG" = yes ]; then sleep 600; fi
echo attempt $BUILDER_ATTEMPT ends
`;
const logOf = (attempt: number): string =>
  `${attempt === 1 ? '' : `builder: attempt ${attempt} on worker rescuer\n`}attempt ${attempt} begins\nattempt ${attempt} ends\n`;

const SIGNALS = ['SIGKILL', 'SIGSTOP'] as const;
type Signal = (typeof SIGNALS)[number];

interface Case {
  name: string;
  step: Step;
  signal: Signal;
  platform: string;
  id: string;
  victim: Program;
  run: Run;
}

/** How a worker is brought to the step and hit there. */
interface Hit {
  platform: string;
  proxy: TcpProxy;
  link: string;
  start(): Promise<Program>;
  submit(long: boolean): Promise<string>;
  /** Sends the signal and says what becomes of what is on its way: of a suspended worker it arrives late, when it has woken. */
  strike(victim: Program): Promise<'pass' | 'drop'>;
}

interface Step {
  name: string;
  /** What the attempts say in the end. */
  attempts: string[];
  reach(hit: Hit): Promise<{ id: string; victim: Program }>;
}

let pool: Pool;
const proxies: TcpProxy[] = [];
const cases: Case[] = [];
const woken: (() => void)[] = [];

interface WireStep {
  name: string;
  side: 'before' | 'after';
  attempts: string[];
  /** In the request of this step, and in none before it. */
  text(platform: string, id: string): string;
  /** Whether Redis has it. */
  isDone?(platform: string, id: string): Promise<boolean>;
}

const isLocked = async (platform: string, id: string): Promise<boolean> =>
  (await pool.client.exists(bullLockKey(runQueue(platform), id))) === 1;
const hasResult = async (_: string, id: string): Promise<boolean> => (await pool.client.hexists(keys.run(id), 'result')) === 1;
const isAcknowledged = async (platform: string): Promise<boolean> => (await pool.client.llen(bullActiveKey(runQueue(platform)))) === 0;
const isOpened = async (_: string, id: string): Promise<boolean> => (await pool.client.hget(keys.run(id), 'n')) === '1';
const isSaid = async (_: string, id: string): Promise<boolean> => (await pool.log(id)).includes('begins');

const bullKey = (platform: string, name: string): string => `${BULL_PREFIX}:${runQueue(platform)}:${name}`;
const ONCE = ['succeeded'];
const AGAIN = ['superseded', 'succeeded'];

const ON_THE_WIRE: WireStep[] = [
  { name: 'as it takes the job', side: 'before', attempts: ONCE, text: (platform) => bullKey(platform, 'stalled') },
  { name: 'when it has taken the job', side: 'after', attempts: ONCE, text: (platform) => bullKey(platform, 'stalled'), isDone: isLocked },
  { name: 'as it opens its attempt', side: 'before', attempts: ONCE, text: () => claimScript.sha1 },
  { name: 'when its attempt is open', side: 'after', attempts: AGAIN, text: () => claimScript.sha1, isDone: isOpened },
  { name: 'as it sends the first line', side: 'before', attempts: AGAIN, text: (_, id) => `:log:${id}:1-` },
  { name: 'when the first line has arrived', side: 'after', attempts: AGAIN, text: (_, id) => `:log:${id}:1-`, isDone: isSaid },
  { name: 'as it commits the result', side: 'before', attempts: AGAIN, text: () => commitScript.sha1 },
  { name: 'when its result is committed', side: 'after', attempts: ONCE, text: () => commitScript.sha1, isDone: hasResult },
  { name: 'as it tells BullMQ', side: 'before', attempts: ONCE, text: (platform) => bullKey(platform, 'completed') },
  { name: 'when BullMQ knows', side: 'after', attempts: ONCE, text: (platform) => bullKey(platform, 'completed'), isDone: isAcknowledged },
];

const STEPS: Step[] = [
  ...ON_THE_WIRE.map(({ name, attempts, ...wire }) => ({ name, attempts, reach: (hit: Hit) => reachOnTheWire(wire, hit) })),
  {
    name: 'while the script runs',
    attempts: AGAIN,
    reach: async ({ start, submit, strike }) => {
      const victim = await start();
      const id = await submit(true);
      await until(async () => (await pool.log(id)).includes('begins'), 'the first line');
      void strike(victim);
      return { id, victim };
    },
  },
  { name: 'while it stores artifacts', attempts: AGAIN, reach: reachStoring },
];

async function reachOnTheWire(wire: Omit<WireStep, 'name' | 'attempts'>, hit: Hit): Promise<{ id: string; victim: Program }> {
  const victim = await hit.start();
  // The id must be known before the worker is let near the run.
  await pool.client.hset(bullKey(hit.platform, 'meta'), 'paused', '1');
  const id = await hit.submit(false);
  const tripped = hit.proxy.trip({
    text: wire.text(hit.platform, id),
    side: wire.side,
    act: async () => {
      if (wire.isDone !== undefined) await until(() => wire.isDone?.(hit.platform, id), 'Redis to have it');
      return hit.strike(victim);
    },
  });
  await pool.client.hdel(bullKey(hit.platform, 'meta'), 'paused');
  await pool.client.zadd(bullKey(hit.platform, 'marker'), 0, '0');
  await Promise.race([tripped, until(() => isHit(victim), 'the worker to come to the step')]);
  return { id, victim };
}

async function reachStoring({ start, submit, strike, link }: Hit): Promise<{ id: string; victim: Program }> {
  const victim = await start();
  const id = await submit(true);
  await until(async () => (await pool.log(id)).includes('begins'), 'the first line');
  renameSync(link, `${link}-away`);
  writeFileSync(link, 'no folder');
  // The script itself shall end: only its long sleep is cut short.
  for (const pid of processesOf(`BUILDER_RUN_ID=${id}`)) if (commandOf(pid).startsWith('sleep')) process.kill(pid, 'SIGTERM');
  await until(() => victim.stderr.includes('refused; trying again'), 'the worker to store');
  void strike(victim);
  unlinkSync(link);
  renameSync(`${link}-away`, link);
  return { id, victim };
}

/** Dead, or stopped by a signal. */
function isHit({ child }: Program): boolean {
  if (child.exitCode !== null || child.signalCode !== null) return true;
  return / T /.test(readFileSync(`/proc/${child.pid}/stat`, 'latin1'));
}

async function hitAt(step: Step, signal: Signal, platform: string): Promise<Case> {
  const link = `${pool.folder.path}/store-${platform}`;
  symlinkSync(pool.storePath, link);
  const proxy = await startTcpProxy(Number(new URL(pool.redis.tcpUrl).port));
  proxies.push(proxy);
  const reached = await step.reach({
    platform,
    proxy,
    link,
    start: () => pool.startWorker(platform, { proxy, platforms: [platform], env: { BUILDER_STORE: `file://${link}` } }),
    submit: (long) => pool.submit(SCRIPT, { platform, env: { LONG: long ? 'yes' : 'no' } }),
    strike: async ({ child }) => {
      child.kill(signal);
      if (signal === 'SIGKILL') return 'drop';
      await new Promise<void>((resolve) => woken.push(resolve));
      return 'pass';
    },
  });
  return { name: step.name, step, signal, platform, ...reached, run: null as unknown as Run };
}

beforeAll(async () => {
  pool = await startPool({ workers: ['first'] });
  // Redis shall know every script, so that none is sent twice.
  await pool.finished(await pool.submit('echo first'));
  // A dozen programs at a time are enough for a small machine.
  for (const signal of SIGNALS)
    await Promise.all(STEPS.map(async (step, index) => void cases.push(await hitAt(step, signal, `${signal.toLowerCase()}-${index}`))));
  await pool.startWorker('rescuer', { platforms: cases.map(({ platform }) => platform), concurrency: 8 });
  await Promise.all(cases.map(async (one) => Object.assign(one, { run: await pool.finished(one.id) })));
  for (const { victim, signal } of cases) if (signal === 'SIGSTOP') victim.child.kill('SIGCONT');
  for (const wake of woken) wake();
}, 180_000);

afterAll(async () => {
  await pool.stop();
  for (const proxy of proxies) await proxy.stop();
});

describe.each(SIGNALS)('a worker that gets %s', (signal) => {
  it.each(STEPS.map(({ name }) => name))('%s: the run ends once, with one whole log and its own artifacts', async (name) => {
    const one = cases.find((found) => found.signal === signal && found.name === name) as Case;
    const { id, victim, platform, step } = one;
    if (signal === 'SIGSTOP') {
      await until(async () => (await pool.client.llen(bullActiveKey(runQueue(platform)))) === 0, 'nothing to be active');
      await until(() => runFolders(pool, platform).length === 0, 'the worker to clear up');
      expect([victim.child.exitCode, processesOf(`BUILDER_RUN_ID=${id}`)]).toEqual([null, []]);
    }
    const run = await pool.run(id);
    const last = step.attempts.length;
    expect(run).toMatchObject({ state: 'finished', outcome: 'succeeded', attempt: last, artifactCount: 1 });
    expect(run.attempts.map(({ outcome }) => outcome)).toEqual(step.attempts);
    const text = logOf(last);
    expect(await pool.log(id)).toBe(text);
    expect(run.log).toMatchObject({ lines: text.split('\n').length - 1, missing: 0 });
    expect((await pool.api(`/runs/${id}/artifacts/out.txt`)).text).toBe(`data of attempt ${last}\n`);
  });
});

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
