/** What became of an attempt: pure. */
import type { Artifact, LogDigest } from '../src/job/artifact.ts';
import type { AttemptEnding, SupersededEnding } from './attempt-ending.ts';

/** `fault`: builder could not prepare it; nothing of the script has run. `kept`: its folder is left for the next start, which stores it. */
export type AttemptResult =
  | { kind: 'ended'; ending: AttemptEnding; log: LogDigest; artifactCount: number }
  | { kind: 'superseded' }
  | { kind: 'interrupted'; kept: boolean }
  | { kind: 'fault'; cause: unknown };

export function resultOf(ending: AttemptEnding | SupersededEnding, log: LogDigest, artifacts: Artifact[]): AttemptResult {
  const { outcome } = ending;
  if (outcome === 'superseded') return { kind: 'superseded' };
  return { kind: 'ended', ending: { ...ending, outcome }, log, artifactCount: artifacts.filter((one) => one.input !== 'unchanged').length };
}
