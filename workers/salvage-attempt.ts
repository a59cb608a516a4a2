/** One attempt of a dead worker: what its log lacks comes from the spool, its files become artifacts, its manifest says `superseded`. */
import { lstat } from 'node:fs/promises';
import { readManifest, writeManifest } from '../src/artifacts/manifest.ts';
import type { Store } from '../src/artifacts/store.ts';
import type { Artifact, LogDigest } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import type { RunRecord, RunSpec } from '../src/job/run.ts';
import { sealLog } from '../src/logs/seal.ts';
import { isAttemptHeld, readRecord } from '../src/queue/records.ts';
import type { Redis } from '../src/redis/connection.ts';
import { oneLine } from '../src/service/errors.ts';
import { pause } from '../src/service/lifecycle.ts';
import type { Logger } from '../src/service/logger.ts';
import { collectArtifacts } from './artifact-collector.ts';
import { type AttemptFacts, attemptManifest } from './attempt-manifest.ts';
import { readAttemptNote } from './attempt-note.ts';
import type { LeftAttempt } from './left-folders.ts';
import { giveLines, giveNotes } from './left-log.ts';
import { patiently } from './patience.ts';
import { pathsIn } from './run-paths.ts';

export interface SalvageContext {
  redis: Redis;
  store: Store;
  logger: Logger;
  until: AbortSignal;
  /** How long Redis or the store may be away at a time. */
  outageMsMax: number;
}

export type Salvaged = { lines: number; artifacts: number } | { nothing: string } | 'held';

const WHY = 'the worker ended before all of this attempt was stored; a later start stored what it had left';

/**
 * `held`: a living worker executes the attempt, and this is a copy of its folder, or something that was put here; nothing of it is
 * touched. Rejects when `until` is aborted, when Redis or the store is away for too long, and with any other fault.
 * The same call again changes nothing.
 */
export async function salvageAttempt(o: SalvageContext, left: LeftAttempt): Promise<Salvaged> {
  const wait = <T>(work: () => Promise<T>): Promise<T> => {
    o.until.throwIfAborted();
    return patiently({ run: left.run, logger: o.logger, until: o.until, outageMsMax: o.outageMsMax }, work);
  };
  const { home, spoolPath } = pathsIn(left.path);
  if (!(await exists(spoolPath))) return { nothing: 'its script never started' };
  const record = await recordOnceFree(o, left, wait);
  if (record === 'held') return 'held';
  const facts = await factsOf(left, record);
  if (facts === null) return { nothing: 'neither Redis nor its folder tells what it was' };
  if ((await wait(() => readManifest(o.store, left.run, left.attempt, left.claim))) !== null) return { nothing: 'it was stored before' };
  // Log, then artifacts, then manifest, as ever.
  const filling = countedLog(record, left) === null ? await fillLog(o, { left, spoolPath, wait }) : null;
  const { artifacts, notes } = await collect(o, { home, spec: facts.spec, wait });
  await filling?.tell(notes);
  // The server may have counted the log meanwhile: what it counted stays what it is.
  const counted = countedLog(await wait(() => readRecord(o.redis, left.run)), left);
  const log = counted ?? (await wait(() => sealLog(o.redis, o.store, left)));
  const ending = { outcome: 'superseded', exitCode: null, signal: null, reason: `superseded: ${WHY}` } as const;
  await wait(() => writeManifest(o.store, attemptManifest(facts, { ending, artifacts, log })));
  return { lines: log.lines, artifacts: artifacts.length };
}

type Wait = <T>(work: () => Promise<T>) => Promise<T>;

/** A dead worker's lock runs out; one that is there after two lives of a lock is renewed by somebody. */
async function recordOnceFree(o: SalvageContext, left: LeftAttempt, wait: Wait): Promise<RunRecord | null | 'held'> {
  const heldUntilMs = performance.now() + 2 * limits.lockDurationMs;
  for (;;) {
    const record = await wait(() => readRecord(o.redis, left.run));
    if (record === null || !(await wait(() => isAttemptHeld(o.redis, record, left.claim)))) return record;
    if (performance.now() > heldUntilMs) return 'held';
    await pause(limits.sweepIntervalMs, o.until);
  }
}

/** By the record, which no script can have written; by the folder's own note where Redis has lost the run. */
async function factsOf(left: LeftAttempt, record: RunRecord | null): Promise<AttemptFacts | null> {
  const { attempt, claim } = left;
  const note = await readAttemptNote(pathsIn(left.path).notePath);
  const spec = record?.spec ?? (note?.spec.id === left.run ? note.spec : null);
  if (spec === null) return null;
  const start = record?.attempts.find((one) => one.number === attempt && one.claim === claim) ?? note;
  return { spec, attempt, claim, worker: start?.worker ?? 'unknown', startedAt: start?.startedAt ?? spec.createdAt };
}

/** The log that a committed result counts, if it is this attempt's. */
function countedLog(record: RunRecord | null, { attempt, claim }: LeftAttempt): LogDigest | null {
  const result = record?.result ?? null;
  return result !== null && result.attempt === attempt && result.claim === claim ? result.log : null;
}

/** Notes tell of files by name, and a name may hold a secret that only the dead worker knew. */
async function collect(o: SalvageContext, { home, spec, wait }: { home: string; spec: RunSpec; wait: Wait }): Promise<Collected> {
  let notes: string[] = [];
  const artifacts = await wait(() => {
    notes = [];
    return collectArtifacts({
      folder: home,
      scriptSha256: spec.script.sha256,
      globs: spec.artifacts,
      inputs: spec.inputs,
      store: o.store,
      note: async (text) => void notes.push(text),
      signal: o.until,
    });
  });
  return { artifacts, notes: spec.secrets.length === 0 ? notes : [] };
}

interface Collected {
  artifacts: Artifact[];
  notes: string[];
}

interface Filling {
  left: LeftAttempt;
  spoolPath: string;
  wait: Wait;
}

/** What Redis has goes to the archive first; behind its end comes what the spool has more, then what there is to tell. */
async function fillLog(o: SalvageContext, { left, spoolPath, wait }: Filling): Promise<{ tell(notes: string[]): Promise<void> }> {
  const { lines: known } = await wait(() => sealLog(o.redis, o.store, left));
  const give = { store: o.store, log: left, known, wait };
  const end = await giveLines({ ...give, spoolPath });
  if (end.fault !== null) o.logger.warn({ run: left.run, attempt: left.attempt, error: oneLine(end.fault) }, 'the rest of a log is spoilt');
  return {
    // Lines behind the spool's own are those of an earlier start that did not come to the end.
    tell: async (notes) => (end.line < known ? undefined : giveNotes({ ...give, redis: o.redis, end, notes: [WHY, ...notes] })),
  };
}

function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
