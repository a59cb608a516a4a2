/** Artifacts, inputs and the manifest of an attempt. */
import { z } from 'zod';
import { checkRelativePath, SCRIPT_NAME, SHA256_PATTERN } from './names.ts';
import { OUTCOMES } from './outcome.ts';

export const Sha256 = z.string().regex(SHA256_PATTERN, 'expected a SHA-256 of 64 hexadecimal digits');

/** A file that a run produced. `mode` holds the permission bits alone; `input` says whether an input lay at this path. */
export const Artifact = z.object({
  path: z.string(),
  bytes: z.int().min(0),
  mode: z.int().min(0).max(0o777),
  sha256: Sha256,
  input: z.enum(['unchanged', 'changed']).nullable(),
  sameAs: z.string().nullable(),
});
export type Artifact = z.infer<typeof Artifact>;

/** A file placed into a run's folder before the script starts; its bytes are a blob of the store. */
export const InputFile = z.object({
  path: z.string().refine(isPlain, { error: ({ input }) => `expected a plain path inside the run's folder, got ${JSON.stringify(input)}` }),
  sha256: Sha256,
  mode: z.int().min(0).max(0o777).default(0o644),
});
export type InputFile = z.infer<typeof InputFile>;

/** Why these inputs cannot lie in one folder, or null: each path once, none below another that is a file, none in the script's place. */
export function inputsConflict(inputs: InputFile[]): string | null {
  const paths = new Set<string>();
  for (const { path } of inputs) {
    if (path === SCRIPT_NAME || path.startsWith(`${SCRIPT_NAME}/`))
      return `expected inputs beside ${SCRIPT_NAME}, got ${JSON.stringify(path)}`;
    if (paths.has(path)) return `expected each input path once, got ${JSON.stringify(path)} twice`;
    paths.add(path);
  }
  for (const path of paths) {
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      if (paths.has(path.slice(0, at))) return `expected ${JSON.stringify(path.slice(0, at))} to be a folder or a file, got both`;
    }
  }
  return null;
}

function isPlain(path: string): boolean {
  try {
    return checkRelativePath(path) === path;
  } catch {
    return false;
  }
}

/** A whole log as archived: see LogEnd for what its digest covers. */
export const LogDigest = z.object({ lines: z.int(), bytes: z.int(), sha256: z.string(), truncated: z.boolean(), missing: z.int() });
export type LogDigest = z.infer<typeof LogDigest>;

export const EMPTY_LOG: LogDigest = {
  lines: 0,
  bytes: 0,
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  truncated: false,
  missing: 0,
};

/** What the store keeps of one attempt beside its blobs and log: enough to rebuild every index without Redis. */
export const Manifest = z.object({
  version: z.literal(1),
  run: z.string(),
  attempt: z.int(),
  claim: z.string(),
  worker: z.string(),
  job: z.string().nullable(),
  platform: z.string(),
  createdAt: z.string(),
  startedAt: z.string(),
  finishedAt: z.string(),
  /** `superseded`: its worker died, and a later start stored what it had left. */
  outcome: z.enum([...OUTCOMES, 'superseded']),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  reason: z.string().nullable(),
  script: z.object({ sha256: Sha256, bytes: z.int() }),
  inputs: z.array(InputFile),
  log: LogDigest,
  artifacts: z.array(Artifact),
});
export type Manifest = z.infer<typeof Manifest>;
