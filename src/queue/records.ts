/** A run's record in Redis: written first, read by everybody, ended by one commit. */
import type { z } from 'zod';
import { InvalidValue } from '../job/invalid-value.ts';
import { limits } from '../job/limits.ts';
import { AttemptRecord, CancelRequest, type RunRecord, RunResult, type RunSpec } from '../job/run.ts';
import type { Redis } from '../redis/connection.ts';
import { bullActiveKey, bullJobKey, bullLockKey, keys, runQueue } from '../redis/keys.ts';
import { runScript } from '../redis/script.ts';
import { BuilderError } from '../service/errors.ts';
import { claimScript, closeAttemptScript, commitScript, createScript, restoreScript, SPEC_PIECES } from './record-scripts.ts';
import { specFrom, storedSpec } from './stored-spec.ts';

export const AttemptStart = AttemptRecord.pick({ claim: true, worker: true, startedAt: true });
export type AttemptStart = z.infer<typeof AttemptStart>;
export const AttemptEnd = AttemptRecord.pick({ finishedAt: true, outcome: true, exitCode: true, signal: true, killed: true });
export type AttemptEnd = z.infer<typeof AttemptEnd>;

export type Created = 'created' | 'known' | 'overlap';

/** Records written in one step of Redis: a few hundredths of a second. */
const CREATED_AT_ONCE = 500;

/** Writes the record unless there is one; `known` leaves it as it was. `alone`: nor while another run of its job is open on its platform. */
export async function createRecord(redis: Redis, spec: RunSpec, o: { alone?: boolean } = {}): Promise<Created> {
  const [created] = await createRecords(redis, spec.platform, [spec], o);
  return created ?? 'known';
}

/** The same for many of one platform; each is written by itself. Throws `platform-dropped`, and then has written none of that step. */
export async function createRecords(redis: Redis, platform: string, specs: RunSpec[], o: { alone?: boolean } = {}): Promise<Created[]> {
  const found: Created[] = [];
  const fixed = [platform, o.alone === true ? 'alone' : '', keys.run(''), keys.runIds(''), keys.runsOfJob('')];
  for (let at = 0; at < specs.length; at += CREATED_AT_ONCE) {
    const wanted = specs.slice(at, at + CREATED_AT_ONCE).flatMap((spec) => [spec.id, storedSpec(spec), spec.job ?? '']);
    const answers = (await runScript(redis, createScript, createKeys(platform), [...fixed, ...wanted])) as (Created | 'dropped')[];
    for (const answer of answers) {
      if (answer === 'dropped') {
        throw new BuilderError(
          'platform-dropped',
          `expected a platform that takes runs, got ${platform}, which is dropped (builder undrop-platform ${platform})`,
        );
      }
      found.push(answer);
    }
  }
  return found;
}

export type Claim =
  | { kind: 'run'; attempt: number; retries: number; record: RunRecord }
  | { kind: 'adopt'; result: RunResult }
  | { kind: 'cancel'; attempt: number }
  | { kind: 'dead'; attempt: number; retries: number }
  | { kind: 'gone' }
  | { kind: 'unlocked' };

export interface ClaimRequest {
  id: string;
  platform: string;
  token: string;
  attemptsMade: number;
  start: AttemptStart;
}

/** Opens the next attempt of a run for the holder of its lock, or says why there is none to open. */
export async function claimAttempt(redis: Redis, { id, platform, token, attemptsMade, start }: ClaimRequest): Promise<Claim> {
  const dead: AttemptEnd = { finishedAt: start.startedAt, outcome: 'superseded', exitCode: null, signal: null, killed: [] };
  const queue = runQueue(platform);
  const [kind, value, retries, flat] = (await runScript(
    redis,
    claimScript,
    [keys.run(id), bullLockKey(queue, id), keys.openRuns(platform), bullActiveKey(queue)],
    [token, attemptsMade, limits.workerDeathsMax, JSON.stringify(start), JSON.stringify(dead), id, limits.lockDurationMs],
  )) as [string, string | number | undefined, string | undefined, string[] | undefined];
  switch (kind) {
    case 'run': {
      const record = parseRecord(id, pairs(flat ?? []));
      return record === null ? { kind: 'gone' } : { kind, attempt: Number(value), retries: Number(retries), record };
    }
    case 'dead':
      return { kind, attempt: Number(value), retries: Number(retries) };
    case 'cancel':
      return { kind, attempt: Number(value) };
    case 'adopt':
      return { kind, result: RunResult.parse(JSON.parse(String(value))) };
    default:
      return { kind: kind === 'gone' ? 'gone' : 'unlocked' };
  }
}

export type Committed = 'committed' | 'already' | 'superseded' | 'gone';

export interface Commit {
  spec: RunSpec;
  /** The lock's token; '' when the server commits for a worker that is gone. */
  token: string;
  attempt: number;
  /** null when no attempt made the result. */
  claim: string | null;
  result: RunResult;
  end: AttemptEnd | null;
}

/** Makes a result the run's one result; `superseded` and `already` mean that it does not count, `gone` that there is no record. */
export async function commitResult(redis: Redis, commit: Commit): Promise<Committed> {
  const { spec } = commit;
  const answer = await runScript(
    redis,
    commitScript,
    [
      keys.run(spec.id),
      bullLockKey(runQueue(spec.platform), spec.id),
      keys.runsOfOutcome(commit.result.outcome),
      keys.cancelling,
      keys.accepting,
      keys.openRuns(spec.platform),
      keys.runs,
      keys.openRunsOfJob(spec.platform, spec.job ?? ''),
    ],
    [
      spec.id,
      commit.token,
      commit.attempt,
      commit.claim ?? '',
      JSON.stringify(commit.result),
      commit.end === null ? '' : JSON.stringify(commit.end),
    ],
  );
  return answer as Committed;
}

/** Closes an attempt that has no result: interrupted, superseded, to be retried, or stopped by a fault of builder; the last two are counted. */
export async function closeAttempt(
  redis: Redis,
  o: { id: string; attempt: number; claim: string; end: AttemptEnd; count?: 'faults' | 'retries' },
): Promise<number> {
  return Number(await runScript(redis, closeAttemptScript, [keys.run(o.id)], [o.attempt, o.claim, JSON.stringify(o.end), o.count ?? '']));
}

/** What BullMQ knows of a job that a worker holds. */
export interface HeldJob {
  token: string;
  name: string;
  data: object;
  opts: object & { priority?: number };
}

/** Gives a Redis that came back empty what it has lost of a run that is being executed; `known` leaves all as it is. */
export async function restoreRun(redis: Redis, { spec, attempts }: RunRecord, job: HeldJob): Promise<'restored' | 'known'> {
  const queue = runQueue(spec.platform);
  const fields = attempts.flatMap(({ number, claim, worker, startedAt, ...end }) => [
    `a${number}`,
    JSON.stringify({ claim, worker, startedAt }),
    ...(end.outcome === null ? [] : [`e${number}`, JSON.stringify(end)]),
  ]);
  const answer = await runScript(
    redis,
    restoreScript,
    [
      keys.run(spec.id),
      keys.runIds(spec.id),
      keys.runs,
      keys.runsOfPlatform(spec.platform),
      keys.platforms,
      keys.runsOfJob(spec.job ?? ''),
      bullLockKey(queue, spec.id),
      bullActiveKey(queue),
      bullJobKey(queue, spec.id),
      keys.openRuns(spec.platform),
      keys.openRunsOfJob(spec.platform, spec.job ?? ''),
    ],
    [
      ...[spec.id, storedSpec(spec), Date.parse(spec.createdAt), spec.platform, spec.job ?? ''],
      ...[job.token, limits.lockDurationMs, attempts.length],
      ...[job.name, JSON.stringify(job.data), JSON.stringify(job.opts), job.opts.priority ?? 0],
      ...fields,
    ],
  );
  return answer === 'restored' ? 'restored' : 'known';
}

export async function readRecord(redis: Redis, id: string): Promise<RunRecord | null> {
  return parseRecord(id, await redis.hgetall(keys.run(id)));
}

/** What artifacts of a run are asked for by: the attempt that counts, or another. */
export interface ClaimedAttempt {
  attempt: number;
  claim: string;
  /** Of the run; null where an attempt was asked for by its number. */
  outcome: RunResult['outcome'] | null;
}

/** The attempt of this number, or without one that of the run's result; null where there is none. One field: files are asked for by the thousand. */
export async function readClaimed(redis: Redis, id: string, number?: number): Promise<ClaimedAttempt | null> {
  const text = await redis.hget(keys.run(id), number === undefined ? 'result' : `a${number}`);
  if (text === null) return null;
  if (number !== undefined) return { attempt: number, claim: AttemptStart.parse(JSON.parse(text)).claim, outcome: null };
  const { attempt, claim, outcome } = RunResult.parse(JSON.parse(text));
  return claim === null ? null : { attempt, claim, outcome };
}

/** Whether a worker holds a run whose newest attempt is this one, and open: a dead one's lock lives on for limits.lockDurationMs. */
export async function isAttemptHeld(redis: Redis, record: RunRecord, claim: string): Promise<boolean> {
  const { spec, attempts, result } = record;
  const newest = attempts.at(-1);
  if (result !== null || newest?.claim !== claim || newest.outcome !== null) return false;
  return (await redis.exists(bullLockKey(runQueue(spec.platform), spec.id))) === 1;
}

export async function readRecords(redis: Redis, ids: string[]): Promise<(RunRecord | null)[]> {
  if (ids.length === 0) return [];
  const pipeline = redis.pipeline();
  for (const id of ids) pipeline.hgetall(keys.run(id));
  const answers = (await pipeline.exec()) ?? [];
  return answers.map(([error, fields], index) => {
    if (error !== null) throw error;
    return parseRecord(ids[index] ?? '', fields as Record<string, string>);
  });
}

/** The full id of a run named by its UUID or an unambiguous prefix of it. */
export async function resolveRunId(redis: Redis, name: string): Promise<string> {
  const prefix = name.toLowerCase();
  if (!/^[0-9a-f-]+$/.test(prefix) || prefix.length < limits.prefixCharsMin || prefix.length > 36) {
    throw new InvalidValue(`expected a run's UUID or at least ${limits.prefixCharsMin} characters of it, got ${JSON.stringify(name)}`);
  }
  if (prefix.length === 36 && (await redis.exists(keys.run(prefix))) === 1) return prefix;
  const ids = await redis.zrangebylex(keys.runIds(prefix), `[${prefix}`, `[${prefix}\xff`, 'LIMIT', 0, 2);
  if (ids.length > 1)
    throw new BuilderError('ambiguous-id', `expected the id of one run, got ${name}, with which several begin; give more characters`);
  if (ids[0] === undefined) throw new BuilderError('not-found', `no such run: ${name}`);
  return ids[0];
}

function parseRecord(id: string, fields: Record<string, string>): RunRecord | null {
  if (fields.spec === undefined) return null;
  const count = Number(fields.n ?? 0);
  return {
    spec: specFrom(id, [fields.spec, ...SPEC_PIECES.map((name) => fields[name] ?? '')].join('')),
    attempts: Array.from({ length: count }, (_, index) => parseAttempt(index + 1, fields)),
    result: fields.result === undefined ? null : RunResult.parse(JSON.parse(fields.result)),
    cancel: fields.cancel === undefined ? null : CancelRequest.parse(JSON.parse(fields.cancel)),
  };
}

/** An answer of HGETALL as a script gives it. */
function pairs(flat: string[]): Record<string, string> {
  return Object.fromEntries(Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at], flat[2 * at + 1]]));
}

function parseAttempt(number: number, fields: Record<string, string>): AttemptRecord {
  const end = fields[`e${number}`];
  return {
    number,
    ...AttemptStart.parse(JSON.parse(fields[`a${number}`] ?? 'null')),
    ...(end === undefined
      ? { finishedAt: null, outcome: null, exitCode: null, signal: null, killed: [] }
      : AttemptEnd.parse(JSON.parse(end))),
  };
}

function createKeys(platform: string): string[] {
  return [keys.runs, keys.runsOfPlatform(platform), keys.platforms, keys.droppedPlatforms, keys.accepting, keys.openRuns(platform)];
}
