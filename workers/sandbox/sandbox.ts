/** What every sandbox offers: it starts one script, and leaves nothing of it alive. */
import { constants } from 'node:os';
import type { Killed } from '../../src/job/run.ts';
import { BuilderError } from '../../src/service/errors.ts';

export const SANDBOX_NAMES = ['bwrap', 'unshare', 'none'] as const;
export type SandboxName = (typeof SANDBOX_NAMES)[number];

/** All paths are absolute. */
export interface Launch {
  argv: readonly [string, ...string[]];
  /** Where the script lies, too. */
  folder: string;
  tmp: string;
  /** The whole environment, the mark included. */
  env: Record<string, string>;
  mark: string;
  network: 'on' | 'none';
  /** Open `cgroup.procs` files: the script writes itself into each before its first instruction. At most 7. */
  enter: readonly number[];
  /** Folders that the run is not to see, but for its own parts of them. Only `bwrap` can do it. */
  hide: readonly string[];
}

/** The sandbox has ended before its script, or without a word of it. */
export class SandboxEnded extends BuilderError {
  constructor(sandbox: string, lastWords: string) {
    super('internal', `expected the sandbox ${sandbox} to outlive the script, got its end: ${lastWords}`);
  }
}

export interface LeaderEnd {
  exitCode: number | null;
  signal: string | null;
}

export interface Finished {
  /** What had to be killed, without the leader; at most `limits.killedListedMax`. */
  killed: Killed[];
  /** The output was still held when the waiting was over. */
  held: boolean;
}

export interface StartedScript {
  /** Pipes to read its output from, which do not block; the caller closes them. */
  stdout: number;
  stderr: number;
  /** Whether it may have begun: the sandbox stands, and has made its process. */
  hasBegun(): boolean;
  /** How the script itself ended. Rejects with a BuilderError when the sandbox failed. */
  leader: Promise<LeaderEnd>;
  /** SIGTERM to every process of the run, and SIGCONT to the stopped ones, so that they hear it. */
  terminate(): void;
  /**
   * Waits until the leader has ended and nobody is left that holds the output; after `terminate` until nobody is left at all.
   * Aborting `kill` ends the waiting. Then everything that is left is killed; resolves when nothing of the run lives.
   */
  finish(kill: AbortSignal): Promise<Finished>;
}

export interface Sandbox {
  readonly name: SandboxName;
  /** Throws a BuilderError when the sandbox itself cannot start; a script that cannot be executed ends as a shell would tell it. */
  start(launch: Launch): Promise<StartedScript>;
}

const SIGNALS = new Map<number, string>();
for (const [name, number] of Object.entries(constants.signals)) if (!SIGNALS.has(number)) SIGNALS.set(number, name);

/** A wait status as wait(2) gives it. */
export function leaderEndOf(status: number): LeaderEnd {
  const signal = status & 0x7f;
  if (signal !== 0) return { exitCode: null, signal: SIGNALS.get(signal) ?? `SIG${signal}` };
  return { exitCode: (status >> 8) & 0xff, signal: null };
}
