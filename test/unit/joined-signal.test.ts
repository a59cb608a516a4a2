import { getEventListeners } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import { joinSignals } from '../../src/service/joined-signal.ts';

describe('a signal for several', () => {
  it('is aborted with the first of them, for its reason', () => {
    const [one, other] = [new AbortController(), new AbortController()];
    const { signal } = joinSignals([one.signal, other.signal]);
    expect(signal.aborted).toBe(false);
    other.abort('the other');
    one.abort('the one');
    expect([signal.aborted, signal.reason]).toEqual([true, 'the other']);
  });

  it('is aborted from the start where one of them is', () => {
    expect(joinSignals([new AbortController().signal, AbortSignal.abort('before')]).signal.reason).toBe('before');
  });

  it('is aborted when its time is over', async () => {
    const { signal } = joinSignals([], 1);
    // The timer alone keeps no program alive, nor would it this test.
    const alive = setInterval(() => undefined, 1_000);
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    clearInterval(alive);
    expect(signal.reason).toMatchObject({ name: 'TimeoutError' });
  });

  it('leaves nothing with them once it is released, and hears nothing', () => {
    const long = new AbortController();
    for (let n = 0; n < 100; n += 1) joinSignals([long.signal, new AbortController().signal], 60_000).release();
    const { signal, release } = joinSignals([long.signal]);
    expect(getEventListeners(long.signal, 'abort')).toHaveLength(1);
    release();
    expect(getEventListeners(long.signal, 'abort')).toHaveLength(0);
    long.abort();
    expect(signal.aborted).toBe(false);
  });
});
