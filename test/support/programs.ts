/** Programs of the system that tests start: run to their end, or kept in the background until the tests end them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export function onPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, program)));
}

/** Resolves once the program has ended with 0; rejects with what it said last. */
export async function runProgram(program: string, args: string[], env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (data) => {
    said = `${said}${data}`.slice(-2_000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${said.trim().split('\n').at(-1) ?? ''}`);
}

export interface BackgroundOptions {
  env?: NodeJS.ProcessEnv;
  /** Takes its output. */
  logFile: string;
}

/** Starts a program that dies with the test process, however that ends. */
export function startProgram(program: string, args: string[], { env = process.env, logFile }: BackgroundOptions): ChildProcess {
  const log = openSync(logFile, 'a');
  const command = onPath('setpriv') ? ['setpriv', '--pdeathsig', 'KILL', program, ...args] : [program, ...args];
  const child = spawn(command[0] as string, command.slice(1), { env, stdio: ['ignore', log, log] });
  closeSync(log);
  child.on('error', () => undefined);
  return child;
}

/** Ends programs as the power switch would: what they stored is thrown away. */
export async function killPrograms(children: ChildProcess[]): Promise<void> {
  const running = children.filter((child) => child.pid !== undefined && child.exitCode === null && child.signalCode === null);
  const ended = running.map((child) => new Promise((resolve) => child.once('exit', resolve)));
  for (const child of running) child.kill('SIGKILL');
  await Promise.all(ended);
}
