/** The numbers of system calls that perl is to make, which differ from machine to machine. */
import { BuilderError } from '../../src/service/errors.ts';

export interface SystemCalls {
  /** What a script is started with; `fork` with its arguments. */
  starting: {
    prctl: number;
    dup3: number;
    execve: number;
    openat: number;
    write: number;
    close: number;
    pipe2: number;
    fork: readonly number[];
  };
  /** What the namespaces of a run are made with; null where builder does not know them. */
  making: { clone: number; unshare: number; mount: number; capset: number; setsid: number; exitGroup: number; mkdirat: number } | null;
}

const SIGCHLD = 17;

const GENERIC: SystemCalls = {
  starting: { prctl: 167, dup3: 24, execve: 221, openat: 56, write: 64, close: 57, pipe2: 59, fork: [220, SIGCHLD, 0, 0, 0, 0] },
  making: { clone: 220, unshare: 97, mount: 40, capset: 91, setsid: 157, exitGroup: 94, mkdirat: 34 },
};

const OLDER = { execve: 11, write: 4, close: 6, fork: [2] };

const KNOWN: Partial<Record<NodeJS.Architecture, SystemCalls>> = {
  x64: {
    starting: { prctl: 157, dup3: 292, execve: 59, openat: 257, write: 1, close: 3, pipe2: 293, fork: [57] },
    making: { clone: 56, unshare: 272, mount: 165, capset: 126, setsid: 112, exitGroup: 231, mkdirat: 258 },
  },
  arm64: GENERIC,
  riscv64: GENERIC,
  ppc64: { starting: { ...OLDER, prctl: 171, dup3: 316, openat: 286, pipe2: 317 }, making: null },
  s390x: { starting: { ...OLDER, prctl: 172, dup3: 326, openat: 288, pipe2: 325 }, making: null },
  ia32: { starting: { ...OLDER, prctl: 172, dup3: 330, openat: 295, pipe2: 331 }, making: null },
  arm: { starting: { ...OLDER, prctl: 172, dup3: 358, openat: 322, pipe2: 359 }, making: null },
};

/** Throws BuilderError `bad-config` on a machine that builder does not know. */
export function systemCalls(): SystemCalls {
  const calls = KNOWN[process.arch];
  if (calls === undefined) throw new BuilderError('bad-config', `expected a machine that builder knows, got ${process.arch}`);
  return calls;
}

/** As init.pl takes them. */
export function callsOfStarting(): string {
  const { prctl, dup3, execve, openat, write, close, pipe2, fork } = systemCalls().starting;
  return [prctl, dup3, execve, openat, write, close, pipe2, ...fork].join(' ');
}
