/** One attempt: its folder, its script, its log, its artifacts, its manifest. */
import { writeManifest } from '../src/artifacts/manifest.ts';
import { readScript } from '../src/artifacts/script.ts';
import { type Artifact, EMPTY_LOG, type LogDigest } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import type { RunRecord } from '../src/job/run.ts';
import { readRecord } from '../src/queue/records.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { joinSignals } from '../src/service/joined-signal.ts';
import { pause } from '../src/service/lifecycle.ts';
import { collectArtifacts } from './artifact-collector.ts';
import {
  type AttemptEnding,
  endingNotes,
  endingOf,
  maskedEnding,
  refusal,
  type SupersededEnding,
  supersededEnding,
} from './attempt-ending.ts';
import { type AttemptLog, openAttemptLog } from './attempt-log.ts';
import { type AttemptFacts, attemptManifest } from './attempt-manifest.ts';
import type { Executed, Execution } from './executor.ts';
import type { RunCgroup } from './limits/run-cgroup.ts';
import type { Mask } from './masker.ts';
import { patiently } from './patience.ts';
import { removeTree } from './remove-tree.ts';
import type { RunFolder } from './run-folder.ts';
import { commandOf } from './sandbox/process-table.ts';
import { SandboxEnded } from './sandbox/sandbox.ts';
import { markOf, scriptEnvironment } from './script-environment.ts';
import type { ChosenSecrets } from './secrets.ts';
import type { OpenAttempt, WorkerContext } from './worker-context.ts';

export interface AttemptSignals {
  /** A person asked for the run to end. */
  cancel: AbortSignal;
  /** Somebody else has the run: end the script, keep what it left as superseded. */
  lost: AbortSignal;
}

/** `fault`: builder could not prepare it; nothing of the script has run. `kept`: its folder is left for the next start, which stores it. */
export type AttemptResult =
  | { kind: 'ended'; ending: AttemptEnding; log: LogDigest; artifactCount: number }
  | { kind: 'superseded' }
  | { kind: 'interrupted'; kept: boolean }
  | { kind: 'fault'; cause: unknown };

export interface AttemptSteps<T> {
  /** The script has run, and nothing of it is alive; it comes before `settle`. */
  onExecuted(): void;
  /** Called once with what became of the attempt; its folder is removed after that, and nobody waits for it. */
  settle(result: AttemptResult): Promise<T>;
}

export async function runAttempt<T>(
  worker: WorkerContext,
  open: OpenAttempt,
  signals: AttemptSignals,
  { settle, onExecuted }: AttemptSteps<T>,
): Promise<T> {
  const secrets = worker.secrets.choose(open.spec.secrets);
  if ('unknown' in secrets) {
    return settle(refused('unknown-secret', `worker ${worker.workerName} has no secret ${secrets.unknown.join(', ')}`));
  }
  const limited = worker.limiter.refusal(open.spec);
  if (limited !== null) return settle(refused('limits', limited));
  let place: Place;
  try {
    place = await preparePlace(worker, open, signals);
  } catch (cause) {
    const stopped = await stoppedBefore(worker, open, signals);
    if (stopped !== null) return settle(stopped);
    if (!(cause instanceof BuilderError) || cause.code !== 'not-found') return settle({ kind: 'fault', cause });
    return settle(refused('input-missing', cause.message));
  }
  const warn = (cause: unknown): void =>
    worker.logger.warn({ folder: place.folder.root, error: secrets.mask.text(oneLine(cause)) }, 'not all of the run could be removed');
  const result = await runInPlace(worker, open, signals, { place, secrets, onExecuted }).catch(
    async (cause): Promise<AttemptResult> => (await stoppedBefore(worker, open, signals)) ?? { kind: 'fault', cause },
  );
  await place.cgroup?.close().catch(warn);
  try {
    return await settle(result);
  } finally {
    if (result.kind !== 'interrupted' || !result.kept) place.folder.retire(place.endedAlone).catch(warn);
  }
}

/** Nothing of the script has run, and no other attempt would fare better. */
function refused(code: string, text: string): AttemptResult {
  return { kind: 'ended', ending: refusal(code, text), log: EMPTY_LOG, artifactCount: 0 };
}

/** What becomes of an attempt that was ended while its folder was made; null where nobody ended it. */
async function stoppedBefore(worker: WorkerContext, open: OpenAttempt, { cancel, lost }: AttemptSignals): Promise<AttemptResult | null> {
  if (cancel.aborted) {
    const executed = { ...NOT_EXECUTED, ended: 'cancelled', outputHeld: false, diskFull: false } as const;
    const ending = endingOf(executed, open.spec, { oomKills: 0, cancelReason: await cancelReasonOf(worker, open, executed) });
    return { kind: 'ended', ending, log: EMPTY_LOG, artifactCount: 0 };
  }
  if (lost.aborted) return { kind: 'superseded' };
  return worker.forcing.aborted ? { kind: 'interrupted', kept: false } : null;
}

const NOT_EXECUTED = { exitCode: null, signal: null, killed: [] };

/** What is made for the attempt alone, and removed after it. */
interface Place {
  folder: RunFolder;
  cgroup: RunCgroup | null;
  /** Set when the script and all that it started have ended, and nothing had to be killed. */
  endedAlone: boolean;
}

async function preparePlace(worker: WorkerContext, open: OpenAttempt, { cancel, lost }: AttemptSignals): Promise<Place> {
  const script = await readScript(worker.store, open.spec.script);
  const { attempt, claim, spec } = open;
  const { inputs } = spec;
  const note = factsOf(worker, open);
  const stop = joinSignals([cancel, lost, worker.forcing]);
  const of = { run: spec.id, attempt, claim, note, script, inputs, store: worker.store, signal: stop.signal };
  const folder = await worker.folders.create(of).finally(stop.release);
  try {
    return { folder, cgroup: worker.limiter.open(spec, { claim, notePath: folder.cgroupsPath }), endedAlone: false };
  } catch (cause) {
    await folder.retire(false).catch(() => undefined);
    throw cause;
  }
}

interface Prepared {
  place: Place;
  secrets: ChosenSecrets;
  onExecuted: () => void;
}

async function runInPlace(worker: WorkerContext, open: OpenAttempt, signals: AttemptSignals, prepared: Prepared): Promise<AttemptResult> {
  const { place, secrets, onExecuted } = prepared;
  const { folder, cgroup } = place;
  const { mask } = secrets;
  const log = await openAttemptLog(worker, open, { spoolPath: folder.spoolPath, mask });
  const stop = joinSignals([signals.cancel, signals.lost, worker.forcing]);
  try {
    const gaps = worker.limiter.note(open.spec);
    if (gaps !== null) await log.note(gaps);
    if (open.attempt > 1) await log.note(`attempt ${open.attempt} on worker ${worker.workerName}`);
    const ended = await executeOrBreak(worker, {
      script: folder.scriptPath,
      folder: folder.home,
      tmp: folder.tmp,
      env: scriptEnvironment({
        spec: open.spec,
        attempt: open.attempt,
        claim: open.claim,
        home: folder.home,
        tmp: folder.tmp,
        secrets: secrets.env,
      }),
      mark: markOf(open.claim),
      timeoutMs: open.spec.timeoutMs,
      graceMs: open.spec.graceMs,
      cancel: stop.signal,
      force: worker.forcing,
      silenceMs: open.spec.silenceMs,
      diskBytes: open.spec.diskBytes,
      network: open.spec.network,
      processLimits: worker.limiter.processLimits(open.spec),
      enter: cgroup?.enter ?? [],
      hide: worker.hide,
      onOutput: (source, chunk) => log.push(source, chunk),
    });
    const executed = { ...ended, killed: [...ended.killed, ...((await cgroup?.endLeft(commandOf)) ?? [])] };
    onExecuted();
    place.endedAlone = executed.ended === 'exited' && executed.killed.length === 0 && !executed.outputHeld;
    const isForced = executed.ended === 'cancelled' && worker.forcing.aborted && !signals.cancel.aborted && !signals.lost.aborted;
    if (executed.ended === 'interrupted' || isForced) return await closeInterrupted(log);
    const facts = { oomKills: cgroup?.oomKills() ?? 0, cancelReason: await cancelReasonOf(worker, open, executed) };
    const isLost = executed.ended === 'cancelled' && signals.lost.aborted && !signals.cancel.aborted;
    const own = executed.ended === 'broken' ? { ...executed.ending, killed: executed.killed } : endingOf(executed, open.spec, facts);
    const ending = maskedEnding<AttemptEnding | SupersededEnding>(isLost ? supersededEnding(executed) : own, mask);
    const notes = endingNotes(ending, { ...executed, killed: ending.killed }, { ...open, ...facts });
    return await storeAttempt(worker, open, folder, { log, ending, notes, mask });
  } finally {
    stop.release();
    await log.close();
  }
}

type WithoutEnd = Omit<Executed, 'ended' | 'diskFull'>;
type ExecutedOrBroken = Executed | (WithoutEnd & { ended: 'interrupted' }) | (WithoutEnd & { ended: 'broken'; ending: AttemptEnding });

/** Whoever ends a worker as a service may end with it all that it has started, a moment earlier. */
async function isEnding({ draining, forcing, toldAtMs }: WorkerContext): Promise<boolean> {
  const isTold = (): boolean => performance.now() - (toldAtMs() ?? Number.NEGATIVE_INFINITY) < limits.endingBrokeMsMax;
  if (!isTold()) await pause(limits.endingToldMsMax, draining.aborted ? forcing : draining);
  return isTold();
}

/**
 * What goes wrong once the script has begun ends the run: it may have done its work, and what it said and left is kept. The executor has ended it:
 * because a full disk of the worker takes no more of the log, say, or because its sandbox broke.
 */
async function executeOrBreak(worker: WorkerContext, execution: Execution): Promise<ExecutedOrBroken> {
  let begun = false;
  const onBroken = (): void => {
    begun = true;
  };
  try {
    return await worker.execute({ ...execution, onBroken });
  } catch (cause) {
    if (!begun) throw cause;
    const isEnded = cause instanceof SandboxEnded && (await isEnding(worker));
    // Whoever wanted it to end says what becomes of the run.
    if (execution.cancel.aborted) {
      worker.logger.warn({ error: oneLine(cause) }, 'a script was ended, and its end is not known');
      return { ...NOT_EXECUTED, ended: 'cancelled', outputHeld: false, diskFull: false };
    }
    const isFull = cause instanceof BuilderError && cause.code === 'store-full';
    if (isEnded) return { ...NOT_EXECUTED, ended: 'interrupted', outputHeld: false };
    const reason = isFull
      ? `disk-full: the disk of worker ${worker.workerName} had no room for the log, so the script was ended`
      : `broken: the script was started on worker ${worker.workerName}, and its end is not known: ${oneLine(cause)}`;
    return { ...NOT_EXECUTED, ended: 'broken', outputHeld: false, ending: { ...NOT_EXECUTED, outcome: 'lost', reason } };
  }
}

/** What an interrupted attempt has said so far is stored, if that takes no time; the run itself goes back. */
async function closeInterrupted(log: AttemptLog): Promise<AttemptResult> {
  await log.note('interrupted: the worker stops; the run goes back to the queue');
  const kept = await log.finish(AbortSignal.timeout(limits.upDrainMs / 2)).then(
    () => false,
    () => true,
  );
  return { kind: 'interrupted', kept };
}

async function cancelReasonOf(
  worker: WorkerContext,
  open: OpenAttempt,
  { ended }: { ended: ExecutedOrBroken['ended'] },
): Promise<string | null> {
  return ended === 'cancelled' ? ((await recordOf(worker, open))?.cancel?.reason ?? null) : null;
}

function recordOf(worker: WorkerContext, open: OpenAttempt): Promise<RunRecord | null> {
  const patience = { run: open.spec.id, logger: worker.logger, until: worker.forcing };
  return patiently(patience, () => readRecord(worker.redis, open.spec.id));
}

/** Log, then artifacts, then manifest; the result comes after all of them. A fault of the store is waited out, bounded. */
async function storeAttempt(
  worker: WorkerContext,
  open: OpenAttempt,
  folder: RunFolder,
  o: { log: AttemptLog; ending: AttemptEnding | SupersededEnding; notes: string[]; mask: Mask },
): Promise<AttemptResult> {
  const stop = joinSignals([worker.forcing]);
  const patience = { run: open.spec.id, logger: worker.logger, mask: o.mask, until: stop.signal, outageMsMax: limits.storeOutageMsMax };
  let artifacts: Artifact[] = [];
  try {
    for (const note of o.notes) await o.log.note(note);
    artifacts = await patiently(patience, () =>
      collectArtifacts({
        folder: folder.home,
        scriptSha256: open.spec.script.sha256,
        globs: open.spec.artifacts,
        inputs: open.spec.inputs,
        store: worker.store,
        note: (text) => o.log.note(text),
        signal: stop.signal,
      }),
    );
    const log = await finishLog(worker, o.log);
    await patiently(patience, () => writeManifest(worker.store, attemptManifest(factsOf(worker, open), { ...o, artifacts, log })));
    return resultOf(o.ending, log, artifacts);
  } catch (cause) {
    if (worker.forcing.aborted) return { kind: 'interrupted', kept: true };
    // A file's name may be in it.
    const error = o.mask.text(oneLine(cause));
    worker.logger.error({ run: open.spec.id, attempt: open.attempt, error }, 'the attempt could not be stored');
    const reason = `not-stored: ended as ${o.ending.outcome}, but could not be stored: ${error}`;
    const ending = o.ending.outcome === 'superseded' ? o.ending : ({ ...o.ending, outcome: 'lost', reason } satisfies AttemptEnding);
    const log = await logWithoutFiles(worker, folder, o.log);
    // Artifacts that were all stored before what failed are there, if it can be said.
    const told = await writeManifest(worker.store, attemptManifest(factsOf(worker, open), { ending, artifacts, log })).then(
      () => true,
      () => false,
    );
    return resultOf(ending, log, told ? artifacts : []);
  } finally {
    stop.release();
  }
}

/** While Redis is away nothing could be committed either: the lines wait for it on this disk, as long as it takes. */
function finishLog(worker: WorkerContext, log: AttemptLog): Promise<LogDigest> {
  let looksLeft = limits.storeOutageLooks;
  const isExcused = (): boolean => {
    if (worker.redis.status === 'ready') looksLeft -= 1;
    return looksLeft > 0;
  };
  const deadline = joinSignals([worker.forcing], limits.storeOutageMsMax / limits.storeOutageLooks, isExcused);
  return log.finish(deadline.signal).finally(deadline.release);
}

function resultOf(ending: AttemptEnding | SupersededEnding, log: LogDigest, artifacts: Artifact[]): AttemptResult {
  const { outcome } = ending;
  if (outcome === 'superseded') return { kind: 'superseded' };
  return { kind: 'ended', ending: { ...ending, outcome }, log, artifactCount: artifacts.filter((one) => one.input !== 'unchanged').length };
}

/** The run's own files may be what fills the disk that its log, the store and Redis write to: they go first. */
async function logWithoutFiles(worker: WorkerContext, folder: RunFolder, log: AttemptLog): Promise<LogDigest> {
  await removeTree(folder.home).catch(() => undefined);
  const deadline = joinSignals([worker.forcing], limits.storeFullMsMax);
  return log
    .finish(deadline.signal)
    .catch(() => log.digest())
    .finally(deadline.release);
}

function factsOf(worker: WorkerContext, { spec, attempt, claim, startedAt }: OpenAttempt): AttemptFacts {
  return { spec, attempt, claim, startedAt, worker: worker.workerName };
}
