/** The sandbox `none`: a session and a process group of its own, and a sweep of /proc until nothing of the run is left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, writeFileSync, writeSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { limits } from '../../src/job/limits.ts';
import { BuilderError, oneLine } from '../../src/service/errors.ts';
import { pause } from '../../src/service/lifecycle.ts';
import {
  commandOf,
  holdsAny,
  linkOf,
  type Process,
  processesOfRun,
  type RunIdentity,
  readProcesses,
  readProcessesSoon,
  startTicksOf,
} from './process-table.ts';
import { CANNOT_EXECUTE, type Finished, type Launch, type LeaderEnd, type Sandbox, type StartedScript } from './sandbox.ts';

/** How often a look is repeated because a process was just about to become another program. */
const UNSURE_LOOKS_MAX = 5;
const UNSURE_PAUSE_MS = 2;

export function noSandbox(): Sandbox {
  return { name: 'none', start };
}

async function start(launch: Launch): Promise<StartedScript> {
  if (launch.network === 'none')
    throw new BuilderError('bad-config', 'expected the sandbox bwrap or unshare for a run without network, got none');
  const spawned = await spawnLeader(launch);
  if ('cause' in spawned) return notExecuted(launch, spawned.cause);
  const { child, pid, exited } = spawned;
  const run: RunIdentity = { leader: pid, startTicks: spawned.startTicks, mark: launch.mark };
  const links = new Set([linkOf('self', launch.stdout), linkOf('self', launch.stderr)]);
  const alive = (): boolean => child.exitCode === null && child.signalCode === null;
  let terminated = false;
  return {
    leader: exited,
    terminate: () => {
      terminated = true;
      terminate(run, alive());
    },
    finish: async (kill) => {
      await Promise.race([exited, whenAborted(kill)]);
      const { left, held } = await settle({ run, links, kill, all: () => terminated });
      const killed = await killAll(run, left);
      await exited;
      return { killed, held };
    },
  };
}

/** Ends what a run of a worker that died has left alive, wherever its mark is found. */
export async function endMarked(mark: string): Promise<void> {
  // No group and no session has this number: the mark alone tells.
  const run: RunIdentity = { leader: -1, startTicks: 0, mark };
  await killAll(run, await look(run));
}

interface Spawned {
  child: ChildProcess;
  pid: number;
  startTicks: number;
  exited: Promise<LeaderEnd>;
}

/** node:child_process and not execa, as in init-run.ts. */
async function spawnLeader(launch: Launch): Promise<Spawned | { cause: NodeJS.ErrnoException }> {
  const [program, ...args] = entering(launch);
  try {
    const child = spawn(program, args, {
      cwd: launch.folder,
      env: launch.env,
      detached: true,
      stdio: ['ignore', launch.stdout, launch.stderr, ...launch.enter],
    });
    const { pid } = child;
    if (pid === undefined) return { cause: await new Promise<NodeJS.ErrnoException>((resolve) => child.once('error', resolve)) };
    standBack(pid);
    // Node has not reaped it yet: the number is its own.
    const startTicks = startTicksOf(pid);
    const exited = new Promise<LeaderEnd>((resolve) => {
      child.once('exit', (exitCode, signal) => resolve({ exitCode, signal: signal === null ? null : signal || 'SIGRT' }));
    });
    return { child, pid, startTicks, exited };
  } catch (cause) {
    return { cause: cause as NodeJS.ErrnoException };
  }
}

/** A shell enters the control groups and then becomes the script: descriptors from 3 on are their files. */
function entering({ argv, enter }: Launch): readonly [string, ...string[]] {
  if (enter.length === 0) return argv;
  const fds = enter.map((_, index) => 3 + index);
  const failed = `{ echo "builder: cannot enter the run's control group" >&2; exit ${CANNOT_EXECUTE.refused}; }`;
  const steps = [...fds.map((fd) => `echo 0 >&${fd} || ${failed}`), `exec ${fds.map((fd) => `${fd}>&-`).join(' ')}`, 'exec "$@"'];
  return ['/bin/sh', '-c', steps.join('\n'), 'sh', ...argv];
}

/** The worker comes first: for the processor, and where memory runs out the script is the first to die. */
function standBack(pid: number): void {
  try {
    setPriority(pid, Math.min(getPriority() + limits.scriptNice, constants.priority.PRIORITY_LOW));
    writeFileSync(`/proc/${pid}/oom_score_adj`, '1000');
  } catch {
    // It has just ended, or has become another user.
  }
}

/** What a shell would say and return; a machine that has no room for another process is builder's fault, not the script's. */
function notExecuted(launch: Launch, cause: NodeJS.ErrnoException): StartedScript {
  const temporary = ['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE', 'ETXTBSY'].includes(cause.code ?? '');
  if (temporary || cause.code === undefined || !existsSync(launch.folder)) {
    throw new BuilderError('internal', `expected to start a process, got ${oneLine(cause)}`, { cause });
  }
  if (cause.code.startsWith('ERR_')) throw new BuilderError('invalid-value', oneLine(cause), { cause });
  const exitCode = cause.code === 'ENOENT' ? CANNOT_EXECUTE.notFound : CANNOT_EXECUTE.refused;
  writeSync(launch.stderr, `builder: ${launch.argv[0]} cannot be executed: ${cause.code}\n`);
  return {
    leader: Promise.resolve({ exitCode, signal: null }),
    terminate: () => undefined,
    finish: async () => ({ killed: [], held: false }),
  };
}

function terminate(run: RunIdentity, leaderAlive: boolean): void {
  // One call for the group, which no fork escapes; those outside of it one by one.
  if (leaderAlive) send(-run.leader, 'SIGTERM');
  for (const one of processesOfRun(run, readProcesses()).found) {
    if (!leaderAlive || one.group !== run.leader) send(one.pid, 'SIGTERM');
    if (one.stopped) send(one.pid, 'SIGCONT');
  }
}

interface Settling {
  run: RunIdentity;
  /** The output's descriptors as /proc shows them. */
  links: ReadonlySet<string>;
  kill: AbortSignal;
  /** Wait for everybody, not only for those who hold the output. */
  all: () => boolean;
}

/** Resolves with who is left when the waiting is over, and whether they hold the output. */
async function settle({ run, links, kill, all }: Settling): Promise<{ left: Process[]; held: boolean }> {
  for (let pollMs: number = limits.leftoverPollMs; ; pollMs = Math.min(pollMs * 1.5, limits.leftoverPollMsMax)) {
    const left = await look(run);
    const held = left.some((one) => holdsAny(one.pid, links));
    if (left.length === 0 || kill.aborted || !(held || all())) return { left, held };
    await pause(pollMs, kill);
  }
}

async function look(run: RunIdentity, seize?: (newcomer: Process) => void): Promise<Process[]> {
  for (let looks = 1; ; looks += 1) {
    const { found, unsure } = processesOfRun(run, await readProcessesSoon(), seize);
    if (found.length > 0 || !unsure || looks === UNSURE_LOOKS_MAX) return found;
    await delay(UNSURE_PAUSE_MS);
  }
}

/** Stops everything first, again and again until nothing new appears, so nothing forks away from the kill; loops until empty. */
async function killAll(run: RunIdentity, first: Process[]): Promise<Finished['killed']> {
  const killed = new Map<number, string>();
  const deadlineMs = performance.now() + limits.sweepMsMax;
  for (let left = first; left.length > 0; left = await look(run, stop)) {
    if (performance.now() > deadlineMs) {
      throw new BuilderError('internal', `expected every process of the run to die, got ${left.length} that live, first ${left[0]?.pid}`);
    }
    const frozen = freeze(run, left, deadlineMs);
    for (const { pid } of frozen) {
      if (pid !== run.leader && killed.size < limits.killedListedMax && !killed.has(pid)) killed.set(pid, commandOf(pid));
    }
    for (const { pid } of frozen) send(pid, 'SIGKILL');
    await delay(UNSURE_PAUSE_MS);
  }
  return [...killed].map(([pid, command]) => ({ pid, command }));
}

function freeze(run: RunIdentity, first: readonly Process[], deadlineMs: number): Process[] {
  const frozen = new Map<number, Process>();
  let fresh = first;
  while (fresh.length > 0 && performance.now() < deadlineMs) {
    for (const one of fresh) {
      stop(one);
      frozen.set(one.pid, one);
    }
    fresh = processesOfRun(run, readProcesses(), stop).found.filter((one) => !frozen.has(one.pid));
  }
  return [...frozen.values()];
}

function stop(one: Process): void {
  send(one.pid, 'SIGSTOP');
}

/** What has just ended needs no signal; what belongs to another user is found again by the sweep, which is bounded. */
function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // ESRCH or EPERM.
  }
}

function whenAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
