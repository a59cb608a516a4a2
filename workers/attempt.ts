/** One attempt: its folder, its script, its log, its artifacts, its manifest. */
import { writeManifest } from '../src/artifacts/manifest.ts';
import { readScript } from '../src/artifacts/script.ts';
import { type Artifact, EMPTY_LOG, type LogDigest, type Manifest } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import type { RunRecord } from '../src/job/run.ts';
import { readRecord } from '../src/queue/records.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { collectArtifacts } from './artifact-collector.ts';
import { type AttemptEnding, endingNotes, endingOf, refusal } from './attempt-ending.ts';
import { type AttemptLog, openAttemptLog } from './attempt-log.ts';
import type { Executed, Execution } from './executor.ts';
import { patiently } from './patience.ts';
import { createRunFolder, type RunFolder } from './run-folder.ts';
import { markOf, scriptEnvironment } from './script-environment.ts';
import type { OpenAttempt, WorkerContext } from './worker-context.ts';

export interface AttemptSignals {
  /** A person asked for the run to end. */
  cancel: AbortSignal;
  /** Somebody else has the run: end the script, keep what it left as superseded. */
  lost: AbortSignal;
}

/** `fault`: builder could not prepare it; nothing of the script has run. */
export type AttemptResult =
  | { kind: 'ended'; ending: AttemptEnding; log: LogDigest; artifactCount: number }
  | { kind: 'interrupted' }
  | { kind: 'fault'; cause: unknown };

export async function runAttempt(worker: WorkerContext, open: OpenAttempt, signals: AttemptSignals): Promise<AttemptResult> {
  let folder: RunFolder;
  try {
    const script = await readScript(worker.store, open.spec.script);
    folder = await createRunFolder({ ...folderOf(worker, open), script, inputs: open.spec.inputs, store: worker.store });
  } catch (cause) {
    if (!(cause instanceof BuilderError) || cause.code !== 'not-found') return { kind: 'fault', cause };
    return { kind: 'ended', ending: refusal('input-missing', cause.message), log: EMPTY_LOG, artifactCount: 0 };
  }
  try {
    return await runInFolder(worker, open, signals, folder);
  } catch (cause) {
    return { kind: 'fault', cause };
  } finally {
    await folder
      .remove()
      .catch((cause) => worker.logger.warn({ folder: folder.root, error: oneLine(cause) }, 'the folder could not be removed'));
  }
}

async function runInFolder(worker: WorkerContext, open: OpenAttempt, signals: AttemptSignals, folder: RunFolder): Promise<AttemptResult> {
  const log = await openAttemptLog(worker, open, folder.spoolPath);
  try {
    if (open.attempt > 1) await log.note(`attempt ${open.attempt} on worker ${worker.workerName}`);
    const stop = AbortSignal.any([signals.cancel, signals.lost, worker.forcing]);
    const executed = await executeOrFull(worker, {
      script: folder.scriptPath,
      folder: folder.home,
      tmp: folder.tmp,
      env: scriptEnvironment({ spec: open.spec, attempt: open.attempt, claim: open.claim, home: folder.home, tmp: folder.tmp }),
      mark: markOf(open.claim),
      timeoutMs: open.spec.timeoutMs,
      graceMs: worker.forcing.aborted ? 0 : open.spec.graceMs,
      cancel: stop,
      hide: worker.hide,
      onOutput: (source, chunk) => log.push(source, chunk),
    });
    const interrupted = executed.ended === 'cancelled' && worker.forcing.aborted && !signals.cancel.aborted && !signals.lost.aborted;
    if (interrupted) return await closeInterrupted(log);
    const ending = executed.ended === 'disk-full' ? executed.ending : await endingFor(worker, open, executed);
    return await storeAttempt(worker, open, folder, { log, executed, ending });
  } finally {
    await log.close();
  }
}

type ExecutedOrFull = Executed | (Omit<Executed, 'ended'> & { ended: 'disk-full'; ending: AttemptEnding });

/** A full disk of the worker takes no more of the log: the executor has ended the script, and the run ends for that reason. */
async function executeOrFull(worker: WorkerContext, execution: Execution): Promise<ExecutedOrFull> {
  try {
    return await worker.execute(execution);
  } catch (cause) {
    if (!(cause instanceof BuilderError) || cause.code !== 'store-full') throw cause;
    const ended = { exitCode: null, signal: null, killed: [] };
    const reason = `disk-full: the disk of worker ${worker.workerName} had no room for the log, so the script was ended`;
    return { ...ended, ended: 'disk-full', outputHeld: false, ending: { ...ended, outcome: 'lost', reason } };
  }
}

/** What an interrupted attempt has said so far is kept, if that takes no time; the run itself goes back. */
async function closeInterrupted(log: AttemptLog): Promise<AttemptResult> {
  await log.note('interrupted: the worker stops; the run goes back to the queue');
  await log.finish(AbortSignal.timeout(limits.upDrainMs / 2)).catch(() => undefined);
  return { kind: 'interrupted' };
}

async function endingFor(worker: WorkerContext, open: OpenAttempt, executed: Executed): Promise<AttemptEnding> {
  const cancel = executed.ended === 'cancelled' ? (await recordOf(worker, open))?.cancel : null;
  return endingOf(executed, open.spec, cancel?.reason ?? null);
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
  o: { log: AttemptLog; executed: Pick<Executed, 'outputHeld' | 'killed'>; ending: AttemptEnding },
): Promise<AttemptResult> {
  const deadline = AbortSignal.any([AbortSignal.timeout(limits.storeOutageMsMax), worker.forcing]);
  const patience = { run: open.spec.id, logger: worker.logger };
  try {
    for (const note of endingNotes(o.ending, o.executed)) await o.log.note(note);
    const artifacts = await patiently({ ...patience, until: deadline }, () =>
      collectArtifacts({
        folder: folder.home,
        scriptSha256: open.spec.script.sha256,
        globs: open.spec.artifacts,
        inputs: open.spec.inputs,
        store: worker.store,
        note: (text) => o.log.note(text),
        signal: deadline,
      }),
    );
    const log = await o.log.finish(deadline);
    await patiently({ ...patience, until: deadline }, () =>
      writeManifest(worker.store, manifestOf(worker, open, { ...o, artifacts, log })),
    );
    return { kind: 'ended', ending: o.ending, log, artifactCount: artifacts.filter((one) => one.input !== 'unchanged').length };
  } catch (cause) {
    if (worker.forcing.aborted) return { kind: 'interrupted' };
    worker.logger.error({ run: open.spec.id, attempt: open.attempt, error: oneLine(cause) }, 'the attempt could not be stored');
    const ending: AttemptEnding = {
      ...o.ending,
      outcome: 'lost',
      reason: `not-stored: ended as ${o.ending.outcome}, but could not be stored: ${oneLine(cause)}`,
    };
    return { kind: 'ended', ending, log: await o.log.digest(), artifactCount: 0 };
  }
}

function manifestOf(
  worker: WorkerContext,
  open: OpenAttempt,
  o: { ending: AttemptEnding; artifacts: Artifact[]; log: LogDigest },
): Manifest {
  const { spec } = open;
  const { outcome, exitCode, signal, reason } = o.ending;
  return {
    version: 1,
    run: spec.id,
    attempt: open.attempt,
    claim: open.claim,
    worker: worker.workerName,
    job: spec.job,
    platform: spec.platform,
    createdAt: spec.createdAt,
    startedAt: open.startedAt,
    finishedAt: new Date().toISOString(),
    outcome,
    exitCode,
    signal,
    reason,
    script: spec.script,
    inputs: spec.inputs,
    log: o.log,
    artifacts: o.artifacts,
  };
}

function folderOf(worker: WorkerContext, open: OpenAttempt): { workDir: string; run: string; attempt: number; claim: string } {
  return { workDir: worker.workDir, run: open.spec.id, attempt: open.attempt, claim: open.claim };
}
