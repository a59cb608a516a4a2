/** What an attempt left goes to the store: its log, its artifacts, its manifest. */
import { writeManifest } from '../src/artifacts/manifest.ts';
import type { Artifact, LogDigest } from '../src/job/artifact.ts';
import { limits } from '../src/job/limits.ts';
import { oneLine } from '../src/service/errors.ts';
import { joinSignals } from '../src/service/joined-signal.ts';
import { collectArtifacts } from './artifact-collector.ts';
import type { AttemptEnding, SupersededEnding } from './attempt-ending.ts';
import type { AttemptLog } from './attempt-log.ts';
import { attemptFacts, attemptManifest } from './attempt-manifest.ts';
import { type AttemptResult, resultOf } from './attempt-result.ts';
import type { Mask } from './masker.ts';
import { patiently } from './patience.ts';
import { removeTree } from './remove-tree.ts';
import type { RunFolder } from './run-folder.ts';
import type { OpenAttempt, WorkerContext } from './worker-context.ts';

/** Log, then artifacts, then manifest; the result comes after all of them. A fault of the store is waited out, bounded. */
export async function storeAttempt(
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
    await patiently(patience, () =>
      writeManifest(worker.store, attemptManifest(attemptFacts(open, worker.workerName), { ...o, artifacts, log })),
    );
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
    const told = await writeManifest(worker.store, attemptManifest(attemptFacts(open, worker.workerName), { ending, artifacts, log })).then(
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
  return log.finish(() => joinSignals([worker.forcing], limits.storeOutageMsMax / limits.storeOutageLooks, isExcused));
}

/** The run's own files may be what fills the disk that its log, the store and Redis write to: they go first. */
async function logWithoutFiles(worker: WorkerContext, folder: RunFolder, log: AttemptLog): Promise<LogDigest> {
  await removeTree(folder.home).catch(() => undefined);
  return log.finish(() => joinSignals([worker.forcing], limits.storeFullMsMax)).catch(() => log.digest());
}
