import { describe, expect, test } from '@jest/globals';
import { eachAtOnce } from '../../src/service/each.ts';

/** What was asked for, and how to end each piece of work. */
function watched() {
  const asked: number[] = [];
  const working: ((failure?: Error) => void)[] = [];
  let isClosed = false;
  async function* items(count: number): AsyncGenerator<number> {
    try {
      for (let item = 0; item < count; item += 1) {
        asked.push(item);
        yield item;
      }
    } finally {
      isClosed = true;
    }
  }
  const work = (item: number): Promise<string> =>
    new Promise((resolve, reject) => working.push((failure) => (failure === undefined ? resolve(`done ${item}`) : reject(failure))));
  return { asked, working, items, work, isClosed: () => isClosed };
}

/** All that can go on without a timer or the system. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a bounded number of things at a time', () => {
  test('no item is asked for before there is room for it, and the answers are in the order of the items', async () => {
    const { asked, working, items, work } = watched();
    const answers = eachAtOnce(items(4), 2, work);
    await turn();
    expect(asked).toEqual([0, 1]);
    working[1]?.();
    await turn();
    expect(asked).toEqual([0, 1, 2]);
    working[2]?.();
    await turn();
    working[3]?.();
    working[0]?.();
    expect(await answers).toEqual(['done 0', 'done 1', 'done 2', 'done 3']);
  });

  test('after a failure nothing more is begun, and it is thrown once the rest is over', async () => {
    const { asked, working, items, work, isClosed } = watched();
    let isOver = false;
    const failed = eachAtOnce(items(9), 2, work)
      .catch((thrown: unknown) => thrown)
      .finally(() => {
        isOver = true;
      });
    await turn();
    working[0]?.(new Error('no room'));
    await turn();
    expect(isOver).toBe(false);
    working[1]?.();
    expect(await failed).toEqual(new Error('no room'));
    expect(working).toHaveLength(2);
    expect(asked).toEqual([0, 1]);
    expect(isClosed()).toBe(true);
  });

  test('items that cannot be had are a failure like one of the work', async () => {
    async function* broken(): AsyncGenerator<number> {
      yield 1;
      throw new Error('no more names');
    }
    await expect(eachAtOnce(broken(), 8, async (item) => item)).rejects.toThrow('no more names');
  });

  test('a generator that fails as it is given up hides no failure', async () => {
    async function* shut(): AsyncGenerator<number> {
      try {
        for (;;) yield 1;
      } finally {
        // biome-ignore lint/correctness/noUnsafeFinally: what is tested
        throw new Error('cannot be shut');
      }
    }
    await expect(eachAtOnce(shut(), 2, () => Promise.reject(new Error('no room')))).rejects.toThrow('no room');
  });

  test('also a list, and an empty one', async () => {
    expect(await eachAtOnce([3, 2, 1], 8, async (item) => item * 2)).toEqual([6, 4, 2]);
    expect(await eachAtOnce([], 8, async (item) => item)).toEqual([]);
  });
});
