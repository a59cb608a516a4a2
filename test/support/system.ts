/** A whole system of a test: `builder up` on a folder of its own, and the producer's commands against it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import type { Info } from '../../src/job/api.ts';
import type { Artifact } from '../../src/job/artifact.ts';
import type { Run } from '../../src/job/run.ts';
import { ROOT } from './root.ts';
import { type TempFolder, tempFolder } from './temp.ts';
import { until } from './until.ts';

export const BUILDER = `${ROOT}bin/builder`;

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Program {
  child: ChildProcess;
  /** What it has written so far. */
  readonly stdout: string;
  readonly stderr: string;
  ended: Promise<Finished>;
}

export interface ProgramOptions {
  cwd?: string;
  env?: Record<string, string>;
  input?: string;
  /** A command that starts it, given as further arguments. */
  through?: string[];
}

/** Starts `bin/builder` with a clean environment. */
export function startProgram(args: string[], o: ProgramOptions = {}): Program {
  const env = { PATH: process.env.PATH ?? '', HOME: o.cwd ?? ROOT, LANG: 'C.UTF-8', ...o.env };
  const [program = '', ...given] = [...(o.through ?? []), process.execPath, BUILDER, ...args];
  const child = spawn(program, given, { cwd: o.cwd ?? ROOT, env, stdio: ['pipe', 'pipe', 'pipe'] });
  const out: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  child.stdout.on('data', (chunk: Buffer) => out.stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => out.stderr.push(chunk));
  child.stdin.on('error', () => undefined);
  child.stdin.end(o.input ?? '');
  const textOf = (stream: 'stdout' | 'stderr'): string => Buffer.concat(out[stream]).toString();
  const ended = new Promise<Finished>((resolve) =>
    child.on('close', (code) => resolve({ code, stdout: textOf('stdout'), stderr: textOf('stderr') })),
  );
  return {
    child,
    ended,
    get stdout() {
      return textOf('stdout');
    },
    get stderr() {
      return textOf('stderr');
    },
  };
}

/** What one or another command answers under `--json`. */
export type Answer = Run & Info & { runs: Run[]; artifacts: Artifact[]; token: string };

export interface System {
  folder: TempFolder;
  /** DIR of `up`. */
  dir: string;
  up: Program;
  url: string;
  token: string;
  /** Runs a producer's command to its end. */
  builder(...args: string[]): Promise<Finished>;
  /** The same with `--json`, parsed; fails the test unless it ended with 0. */
  json(...args: string[]): Promise<Answer>;
  /** Starts a producer's command. */
  start(args: string[], o?: ProgramOptions): Program;
  /** Pid of a program that `up` started; waits until it is another than `not`. */
  pid(program: 'redis' | 'server' | 'worker', not?: number): Promise<number>;
  /** Starts `up` again on the same folder. */
  again(): Promise<void>;
  stop(): Promise<void>;
}

export interface SystemOptions {
  flags?: string[];
  /** Further variables of `up`. */
  env?: Record<string, string>;
}

export function startSystem(...flags: string[]): Promise<System> {
  return startSystemWith({ flags });
}

export async function startSystemWith({ flags = [], env = {} }: SystemOptions): Promise<System> {
  const folder = tempFolder();
  const dir = `${folder.path}/data`;
  const cwd = folder.path;
  const home = { XDG_CONFIG_HOME: `${folder.path}/config` };
  const launch = async (): Promise<Pick<System, 'up' | 'url' | 'token'>> => {
    const up = startProgram(['up', '--data', dir, '--port', '0', '--platform', 'test', ...flags], { cwd, env: { ...home, ...env } });
    const line = await until(
      () => (up.child.exitCode === null ? /serves (http:\S+)/.exec(up.stdout)?.[1] : `ended: ${up.stderr}`),
      'up to serve',
    );
    if (line.startsWith('ended')) throw new Error(`up ${line}`);
    return { up, url: line, token: JSON.parse(readFileSync(`${dir}/client.json`, 'utf8')).token };
  };
  const start = (args: string[], o: ProgramOptions = {}): Program => startProgram(args, { cwd, ...o, env: { ...home, ...o.env } });
  const builder = (...args: string[]): Promise<Finished> => start(args).ended;
  const system: System = {
    folder,
    dir,
    ...(await launch()),
    start,
    builder,
    json: async (...args) => {
      const done = await builder(...args, '--json');
      if (done.code !== 0) throw new Error(`builder ${args.join(' ')}: exit ${done.code}: ${done.stderr}`);
      return JSON.parse(done.stdout);
    },
    pid: (program, not = 0) =>
      until(() => {
        const file = `${dir}/children/${program}`;
        const pid = existsSync(file) ? Number(readFileSync(file, 'utf8').split(' ')[0]) : 0;
        return pid !== not && existsSync(`/proc/${pid}`) ? pid : 0;
      }, `${program} to be started`),
    again: async () => void Object.assign(system, await launch()),
    stop: async () => {
      system.up.child.kill('SIGTERM');
      system.up.child.kill('SIGTERM');
      await system.up.ended;
      folder.remove();
    },
  };
  return system;
}

/** The state of a run, asked over HTTP. */
export async function runOf(system: System, id: string): Promise<Run> {
  const answer = await fetch(`${system.url}/api/v1/runs/${id}`, { headers: { authorization: `Bearer ${system.token}` } });
  return (await answer.json()) as Run;
}
