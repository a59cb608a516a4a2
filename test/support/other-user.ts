/** Programs of a user who is not root, who is under limits and permissions that root is not under. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';

const dist = fileURLToPath(new URL('../../dist/', import.meta.url));
export const NOBODY = 65_534;

/** The address of a built module, for a program's `import()`. */
export function built(path: string): string {
  return String(pathToFileURL(`${dist}${path}`));
}

/** Null where there can be such programs. Another user must be able to read the built ones. */
export function whyNoOtherUser(): string | null {
  if (process.getuid?.() !== 0) return 'only root can become another user';
  const reading = spawnSync(process.execPath, ['-e', `require('fs').readFileSync('${dist}workers/artifact-collector.js')`], {
    uid: NOBODY,
  });
  return reading.status === 0 ? null : 'another user cannot read the checkout';
}

/** What it printed: its output, its faults, its exit code. */
export function runAsNobody(program: string, ...args: string[]): [stdout: string, stderr: string, status: number | null] {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', program, ...args], {
    uid: NOBODY,
    gid: NOBODY,
    encoding: 'utf8',
    timeout: 30_000,
  });
  return [stdout, stderr, status];
}
