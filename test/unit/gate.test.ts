import { describe, expect, it } from '@jest/globals';
import { createGate } from '../../src/service/gate.ts';

describe('a gate', () => {
  it('lets so many pass at a time, in their order, also after one that failed', async () => {
    const gate = createGate(2);
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    const asked = [0, 1, 2, 3].map((one) =>
      gate(async () => {
        begun.push(one);
        await new Promise<void>((resolve, reject) => ends.push(one === 0 ? () => reject(new Error('failed')) : resolve));
        return one;
      }),
    );
    expect(begun).toEqual([0, 1]);
    ends[0]?.();
    await expect(asked[0]).rejects.toThrow('failed');
    expect(begun).toEqual([0, 1, 2]);
    ends[1]?.();
    await asked[1];
    ends[2]?.();
    ends[3]?.();
    expect(await Promise.all(asked.slice(1))).toEqual([1, 2, 3]);
    expect(await gate(async () => 'free again')).toBe('free again');
  });
});
