/** One attempt: its folder, its script, and what becomes of them. */
import { readScript } from '../src/artifacts/script.ts';
import { EMPTY_LOG } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import type { RunRecord } from '../src/job/run.ts';
import { readRecord } from '../src/queue/records.ts';
import { BuilderError, oneLine } from '../src/service/errors.ts';
import { joinSignals } from '../src/service/joined-signal.ts';
import { pause } from '../src/service/lifecycle.ts';
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
import { attemptFacts } from './attempt-manifest.ts';
import type { AttemptResult } from './attempt-result.ts';
import type { Executed, Execution } from './executor.ts';
import type { RunCgroup } from './limits/run-cgroup.ts';
import { patiently } from './patience.ts';
import type { RunFolder } from './run-folder.ts';
import { commandOf } from './sandbox/process-table.ts';
import { SandboxEnded } from './sandbox/sandbox.ts';
import { markOf, scriptEnvironment } from './script-environment.ts';
import type { ChosenSecrets } from './secrets.ts';
import { storeAttempt } from './store-attempt.ts';
import type { OpenAttempt, WorkerContext } from './worker-context.ts';

export interface AttemptSignals {
  /** A person asked for the run to end. */
  cancel: AbortSignal;
  /** Somebody else has the run: end the script, keep what it left as superseded. */
  lost: AbortSignal;
  /** Either of these, or the worker is forced to end. */
  any: AbortSignal;
}

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

async function preparePlace(worker: WorkerContext, open: OpenAttempt, signals: AttemptSignals): Promise<Place> {
  const script = await readScript(worker.store, open.spec.script);
  const { attempt, claim, spec } = open;
  const { inputs } = spec;
  const note = attemptFacts(open, worker.workerName);
  const of = { run: spec.id, attempt, claim, note, script, inputs, store: worker.store, signal: signals.any };
  const folder = await worker.folders.create(of);
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
      cancel: signals.any,
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
    // What was to be stored is: a disk that complains at the very end changes nothing of it.
    await log
      .close()
      .catch((cause) => worker.logger.warn({ run: open.spec.id, error: oneLine(cause) }, 'the file of a log could not be closed'));
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
  const kept = await log
    .finish(() => joinSignals([], limits.upDrainMs / 2))
    .then(
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
