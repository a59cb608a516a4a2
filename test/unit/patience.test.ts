import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { BuilderError } from '../../src/service/errors.ts';
import { createLogger } from '../../src/service/logger.ts';
import { patiently } from '../../workers/patience.ts';

const MINUTE = 60_000;
const away = new BuilderError('store-unavailable', 'away');
const full = new BuilderError('store-full', 'full');

beforeEach(() => {
  jest.useFakeTimers();
});

afterEach(() => {
  jest.useRealTimers();
});

/** Each step takes its time, then fails or not; what comes of them all, and when. */
async function outcomeOf(steps: { ms: number; fault?: Error }[], outageMsMax?: number): Promise<{ told: string; atMs: number }> {
  const left = [...steps];
  const o = { run: 'run', logger: createLogger('test', 'silent'), until: new AbortController().signal };
  const begunAtMs = performance.now();
  const done = patiently({ ...o, ...(outageMsMax === undefined ? {} : { outageMsMax }) }, async () => {
    const { ms, fault } = left.shift() ?? { ms: 0 };
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (fault !== undefined) throw fault;
    return 'done';
  }).then(
    (told) => ({ told, atMs: performance.now() - begunAtMs }),
    (cause: Error) => ({ told: cause.message, atMs: performance.now() - begunAtMs }),
  );
  await jest.advanceTimersByTimeAsync(24 * 60 * MINUTE);
  return done;
}

describe('patience', () => {
  it('has no end for what goes on well, and counts an outage from its first fault', async () => {
    const long = { ms: 40 * MINUTE };
    expect((await outcomeOf([long], 30 * MINUTE)).told).toBe('done');
    expect((await outcomeOf([{ ...long, fault: away }, { ms: MINUTE, fault: away }, { ms: MINUTE }], 30 * MINUTE)).told).toBe('done');
    const apart = [{ ms: MINUTE, fault: away }, { ms: 35 * MINUTE, fault: away }, { ms: MINUTE }];
    expect((await outcomeOf(apart, 30 * MINUTE)).told).toBe('done');
    const never = Array.from({ length: 100 }, () => ({ ms: MINUTE, fault: away }));
    const { told, atMs } = await outcomeOf(never, 30 * MINUTE);
    expect([told, Math.round(atMs / MINUTE)]).toEqual(['away', 32]);
  });

  it('gives a full store some seconds from when it is full, however long it took until then', async () => {
    expect((await outcomeOf([{ ms: 10 * MINUTE, fault: full }, { ms: 0 }])).told).toBe('done');
    const ever = Array.from({ length: 1_000 }, () => ({ ms: 0, fault: full }));
    expect((await outcomeOf(ever)).told).toBe('full');
  });
});
