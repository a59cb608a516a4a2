/** Names of jobs, platforms, templates and labels; ids of runs; paths inside a run's folder. */
import { randomUUID } from 'node:crypto';
import { v5 } from 'uuid';
import { InvalidValue } from './invalid-value.ts';
import { limits } from './limits.ts';

export const NAME_PATTERN = /^[a-z0-9][a-z0-9._-]{0,62}$/;
export const RUN_ID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const SHA256_PATTERN = /^[0-9a-f]{64}$/;
export const ENV_NAME_PATTERN = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** A secret, or a line of one, with fewer characters would be found everywhere in a log. */
export const SECRET_CHARS_MIN = 4;

/** The script's own name in its folder; no input may have it. */
export const SCRIPT_NAME = 'script.sh';

/** Fixed for ever: the run of a tick, or of a request, has the same UUID whichever server submits it. */
const RUN_NAMESPACE = '7c3f3a0e-52a1-4f5e-9d0b-0f6f5b3f9c11';

export function checkName(kind: string, name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new InvalidValue(
    `expected a ${kind} name of a-z, 0-9, '.', '_', '-' (at most 63, the first a letter or digit), got ${JSON.stringify(name)}`,
  );
}

export function newRunId(): string {
  return randomUUID();
}

/** The id of the run that a definition's tick submits: equal on every server, so one tick never runs twice. */
export function tickRunId(definitionId: string, platform: string, tickMs: number): string {
  return v5(`${definitionId} ${platform} ${tickMs}`, RUN_NAMESPACE);
}

/** The id of one platform's run of those that a request makes together under one id. */
export function partRunId(requestId: string, platform: string): string {
  return v5(`${requestId} ${platform}`, RUN_NAMESPACE);
}

/**
 * A path relative to a run's folder, normalised: `a/b`, never absolute, never with `..`, NUL or an empty step.
 * Throws InvalidValue otherwise. Bounds: limits.pathBytesMax bytes, 255 bytes a step.
 */
export function checkRelativePath(path: string): string {
  const steps = path.split('/').filter((step) => step !== '.' && step !== '');
  const fault =
    path.startsWith('/') || steps.includes('..') || steps.length === 0 || path.includes('\0')
      ? 'a path inside the folder'
      : Buffer.byteLength(path) > limits.pathBytesMax || steps.some((step) => Buffer.byteLength(step) > 255)
        ? 'a shorter path'
        : null;
  if (fault !== null) throw new InvalidValue(`expected ${fault}, got ${JSON.stringify(path)}`);
  return steps.join('/');
}
