/** Artifacts, inputs and the manifest of an attempt. */
import { z } from 'zod';
import { SHA256_PATTERN } from './names.ts';
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
export const InputFile = z.object({ path: z.string(), sha256: Sha256, mode: z.int().min(0).max(0o777).default(0o644) });
export type InputFile = z.infer<typeof InputFile>;

/** A whole log as archived: see LogEnd for what its digest covers. */
export const LogDigest = z.object({ lines: z.int(), bytes: z.int(), sha256: z.string(), truncated: z.boolean(), missing: z.int() });
export type LogDigest = z.infer<typeof LogDigest>;

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
  outcome: z.enum(OUTCOMES),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  reason: z.string().nullable(),
  script: z.object({ sha256: Sha256, bytes: z.int() }),
  inputs: z.array(InputFile),
  log: LogDigest,
  artifacts: z.array(Artifact),
});
export type Manifest = z.infer<typeof Manifest>;
