/** Names of jobs, platforms, templates and labels; ids of runs; paths inside a run's folder. */
import { randomUUID } from 'node:crypto';
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

export function checkName(kind: string, name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new InvalidValue(
    `expected a ${kind} name of a-z, 0-9, '.', '_', '-' (at most 63, the first a letter or digit), got ${JSON.stringify(name)}`,
  );
}

export function newRunId(): string {
  return randomUUID();
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
