/** The numbers of system calls that perl is to make, which differ from machine to machine. */
import { BuilderError } from '../../src/service/errors.ts';

export interface SystemCalls {
  prctl: number;
  /** What the namespaces of a run are made with; null where builder does not know them. */
  making: { clone: number; unshare: number; mount: number; capset: number; setsid: number; exitGroup: number } | null;
}

const GENERIC: SystemCalls = { prctl: 167, making: { clone: 220, unshare: 97, mount: 40, capset: 91, setsid: 157, exitGroup: 94 } };

const KNOWN: Partial<Record<NodeJS.Architecture, SystemCalls>> = {
  x64: { prctl: 157, making: { clone: 56, unshare: 272, mount: 165, capset: 126, setsid: 112, exitGroup: 231 } },
  arm64: GENERIC,
  riscv64: GENERIC,
  ppc64: { prctl: 171, making: null },
  s390x: { prctl: 172, making: null },
  ia32: { prctl: 172, making: null },
  arm: { prctl: 172, making: null },
};

/** Throws BuilderError `bad-config` on a machine that builder does not know. */
export function systemCalls(): SystemCalls {
  const calls = KNOWN[process.arch];
  if (calls === undefined) throw new BuilderError('bad-config', `expected a machine that builder knows, got ${process.arch}`);
  return calls;
}
