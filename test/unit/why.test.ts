import { describe, expect, it } from '@jest/globals';
import { TickCounts, type WorkerInfo } from '../../src/job/api.ts';
import { EMPTY_LOG } from '../../src/job/artifact.ts';
import { type JobFacts, whyOfJob } from '../../src/job/job-why.ts';
import { nearestName } from '../../src/job/nearest.ts';
import type { RunRecord, RunResult } from '../../src/job/run.ts';
import { type Place, type PlatformFacts, whyOfRun } from '../../src/job/run-why.ts';
import { specOf } from '../support/specs.ts';

const AT = '2026-11-24T10:00:00.000Z';
const worker = (platforms: string[], running = 0): WorkerInfo => ({
  name: 'w1',
  platforms,
  concurrency: 2,
  running,
  lastSeenAt: AT,
  version: '1',
  sandbox: 'none',
});
const PLATFORM: PlatformFacts = {
  name: 'debian-12',
  isDropped: false,
  isPaused: false,
  active: 0,
  workers: [worker(['debian-12'])],
  known: [],
};
const WAITING: Place = { kind: 'waiting', position: 1, ahead: [] };
const open = {
  number: 1,
  claim: 'c',
  worker: 'w1',
  startedAt: AT,
  finishedAt: null,
  outcome: null,
  exitCode: null,
  signal: null,
  killed: [],
};
const RESULT: RunResult = {
  outcome: 'failed',
  exitCode: 3,
  signal: null,
  reason: null,
  attempt: 1,
  claim: 'c',
  attemptsMade: 0,
  finishedAt: AT,
  log: EMPTY_LOG,
  artifactCount: 0,
};

function whyRun(place: Place, record: Partial<RunRecord> = {}, platform: Partial<PlatformFacts> = {}) {
  const spec = specOf({ platform: 'debian-12' });
  return whyOfRun({ spec, attempts: [], result: null, cancel: null, ...record }, place, { ...PLATFORM, ...platform });
}

describe('the nearest name', () => {
  it('is that with the fewest letters to change, where neighbours that are swapped count once', () => {
    expect(nearestName('debian-21', ['ubuntu-24', 'debian-12', 'debian-9'])).toBe('debian-12');
    expect(nearestName('debain-12', ['debian-11', 'debian-12'])).toBe('debian-12');
    expect(nearestName('a', ['b'])).toBe('b');
  });

  it('is none where every name is another word, and never the name itself', () => {
    expect(nearestName('debian-12', ['alpine', 'fedora-40', 'debian-12'])).toBeNull();
    expect(nearestName('debian-12', [])).toBeNull();
  });
});

describe('why a run', () => {
  const attempts = [open];
  const cancel = { requestedAt: AT, reason: 'wrong branch' };
  const queue: Place = { kind: 'waiting', position: 4, ahead: [{ run: 'r', job: 'nightly' }] };
  it.each<[string, string, ReturnType<typeof whyRun>, string]>([
    ['has ended', 'finished', whyRun({ kind: 'nowhere' }, { result: RESULT, attempts }), 'it has ended: failed with exit code 3'],
    ['runs', 'running', whyRun({ kind: 'active', isHeld: true }, { attempts }), `it runs on w1 since ${AT}`],
    ['was just taken', 'about-to-be-taken', whyRun({ kind: 'active', isHeld: true }), 'a worker has just taken it, and starts it'],
    [
      'has a silent worker',
      'worker-silent',
      whyRun({ kind: 'active', isHeld: false }, { attempts }),
      'w1 is silent; the run is queued again within seconds',
    ],
    [
      'waits for a retry',
      'delayed',
      whyRun({ kind: 'delayed', untilMs: Date.parse(AT) }, { attempts: [{ ...open, outcome: 'failed', finishedAt: AT }] }),
      `it waits until ${AT}, when attempt 2 is due`,
    ],
    [
      'is being cancelled by its worker',
      'cancelling',
      whyRun({ kind: 'active', isHeld: true }, { attempts, cancel }),
      'it is asked to be cancelled; its worker w1 ends it',
    ],
    ['is being cancelled', 'cancelling', whyRun(WAITING, { cancel }), 'it is asked to be cancelled; a server ends it within seconds'],
    [
      'waits on a paused platform',
      'platform-paused',
      whyRun(WAITING, {}, { isPaused: true }),
      'debian-12 is paused on the board: workers take none of its runs',
    ],
    [
      'waits on a dropped platform',
      'platform-dropped',
      whyRun(WAITING, {}, { isDropped: true }),
      'debian-12 is dropped; this run was accepted before and may still be taken',
    ],
    [
      'waits for a worker that there is not',
      'no-worker',
      whyRun(WAITING, {}, { workers: [worker(['debian-11', 'fedora'])], known: ['debian-12', 'debian-13'] }),
      'no worker takes debian-12 now; did you mean debian-11?',
    ],
    [
      'waits for slots',
      'slots-busy',
      whyRun(queue, {}, { workers: [worker(['debian-12'], 2)] }),
      'all 2 slots of debian-12 are busy; it is number 4 in the queue',
    ],
    ['waits behind others', 'slots-busy', whyRun(queue), '2 slots of debian-12 are free, and it is number 4 in the queue'],
    ['is next', 'about-to-be-taken', whyRun(WAITING), 'a worker is free and takes it now'],
    ['is half accepted', 'being-queued', whyRun({ kind: 'nowhere' }), 'it is accepted; a server queues it within seconds'],
  ])('%s is told under a code of its own: %s', (_, code, why, message) => {
    expect([why.code, why.message]).toEqual([code, message]);
  });

  it('has its facts beside it', () => {
    expect(whyRun(queue, {}, { workers: [worker(['debian-12'], 2)] })).toMatchObject({
      ...{ position: 4, ahead: [{ run: 'r', job: 'nightly' }], workers: 1, slots: 2, busy: 2, state: 'waiting' },
    });
    expect(whyRun(WAITING, {}, { workers: [], known: ['debian-12', 'debian-13'] })).toMatchObject({
      ...{ nearestServed: null, nearestKnown: 'debian-13', workers: 0 },
    });
  });
});

describe('why a job', () => {
  const FACTS: JobFacts = {
    ...{ job: 'nightly', paused: false, next: AT, platforms: ['debian-12'], unserved: [], dropped: [] },
    ...{ openRuns: 0, openRun: null, lastTick: null, ticks: TickCounts.parse({}), isEverDue: true },
  };
  const why = (given: Partial<JobFacts>) => whyOfJob({ ...FACTS, ...given });
  const next = `it is due next at ${AT}`;
  it.each<[string, string, ReturnType<typeof why>, string]>([
    ['is due', 'due', why({}), next],
    ['is never due', 'never-due', why({ next: null, isEverDue: false }), 'it is never due by itself (builder execute nightly)'],
    ['was due once', 'not-due-again', why({ next: null }), 'its one moment is past'],
    ['is paused', 'paused', why({ paused: true, next: null }), 'it is paused'],
    ['lost its template', 'no-platform', why({ platforms: [] }), 'its template is gone, or has a script for no platform'],
    ['is of a dropped platform', 'platform-dropped', why({ dropped: ['debian-12'] }), 'debian-12 takes no runs (builder undrop-platform)'],
    [
      'has no worker',
      'no-worker',
      why({ unserved: [{ platform: 'debian-21', nearestServed: 'debian-12', nearestKnown: null }] }),
      `no worker takes debian-21 now; did you mean debian-12?; ${next}`,
    ],
    [
      'was skipped',
      'tick-made-no-run',
      why({ lastTick: { at: AT, code: 'overlap', detail: 'a run is open on debian-12' } }),
      `the tick of ${AT} made no run: a run is open on debian-12; ${next}`,
    ],
    [
      'missed its tick',
      'tick-made-no-run',
      why({ lastTick: { at: AT, code: 'misfire', detail: null } }),
      `the tick of ${AT} made no run: no server was there in time, and it is not to run late; ${next}`,
    ],
  ])('%s is told under a code of its own: %s', (_, code, told, message) => {
    expect([told.code, told.message]).toEqual([code, message]);
  });

  it('has open runs says why the first of them waits', () => {
    const openRun = whyRun(WAITING, {}, { workers: [] });
    expect(why({ openRuns: 3, openRun })).toMatchObject({
      code: 'runs-wait',
      message: `the first of its 3 open runs that wait, ${openRun.run} on debian-12: no worker takes debian-12 now`,
    });
  });
});
