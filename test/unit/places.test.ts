import { describe, expect, it } from '@jest/globals';
import { createPlaces, type Place } from '../../workers/places.ts';
import { until } from '../support/until.ts';

function places(o: { scripts: number; runs?: number; queues?: number }) {
  const bounds = new Array<number>(o.queues ?? 1).fill(o.scripts);
  const made = createPlaces({
    runs: 2 * o.scripts,
    queues: 1,
    ...o,
    bound: (queue, runs) => {
      bounds[queue] = runs;
    },
  });
  return { ...made, bounds };
}

describe('places', () => {
  it('are as many as scripts may run; one is free again when its script has ended', async () => {
    const { take, bounds, taken } = places({ scripts: 2 });
    const [first, second] = [await take(0), await take(0)];
    expect([first, second]).not.toContain(null);
    expect([taken(), bounds]).toEqual([2, [2]]);
    (first as Place).onExecuted();
    expect(bounds).toEqual([3]);
    expect(await take(0)).not.toBeNull();
    expect([taken(), bounds]).toEqual([3, [3]]);
    (second as Place).leave();
    expect([taken(), bounds]).toEqual([2, [3]]);
  });

  it('are none while as many runs again are being stored', async () => {
    const { take, bounds } = places({ scripts: 2 });
    const stored: Place[] = [];
    for (let n = 0; n < 4; n += 1) {
      const place = (await take(0)) as Place;
      place.onExecuted();
      stored.push(place);
    }
    expect(bounds).toEqual([4]);
    const late = take(0);
    stored[0]?.leave();
    expect(await late).not.toBeNull();
    expect(bounds).toEqual([4]);
  });

  it('are given to runs that came too early in their order, and each queue is bounded by what it has', async () => {
    const { take, bounds } = places({ scripts: 1, queues: 3 });
    const first = (await take(0)) as Place;
    expect(bounds).toEqual([1, 0, 0]);
    const order: number[] = [];
    const [second, third] = [1, 2].map((queue) => take(queue).then((place) => order.push(queue) && place));
    expect(bounds).toEqual([1, 0, 0]);
    first.onExecuted();
    const place = await second;
    expect([order, bounds]).toEqual([[1], [1, 1, 1]]);
    (place as Place).leave();
    await third;
    expect([order, bounds]).toEqual([
      [1, 2],
      [1, 0, 1],
    ]);
  });

  it('are waited for only a moment', async () => {
    const { take, bounds, taken } = places({ scripts: 1, queues: 2 });
    const first = (await take(0)) as Place;
    expect(await take(1)).toBeNull();
    expect([taken(), bounds]).toEqual([1, [1, 0]]);
    first.leave();
    expect([taken(), bounds]).toEqual([0, [0, 1]]);
    expect(await take(1)).not.toBeNull();
  });

  it('that get free are for the queue whose run went back the longest ago', async () => {
    const { take, bounds } = places({ scripts: 1, queues: 3 });
    const first = (await take(0)) as Place;
    expect(await Promise.all([take(2), take(1)])).toEqual([null, null]);
    expect(bounds).toEqual([1, 0, 0]);
    first.leave();
    expect(bounds).toEqual([0, 0, 1]);
    const second = (await take(2)) as Place;
    second.leave();
    expect(bounds).toEqual([0, 1, 0]);
    ((await take(1)) as Place).leave();
    expect(bounds).toEqual([1, 1, 1]);
  });

  it('are for all again where that queue has nothing any more', async () => {
    const { take, bounds } = places({ scripts: 1, queues: 2 });
    const first = (await take(0)) as Place;
    expect(await take(1)).toBeNull();
    first.leave();
    expect(bounds).toEqual([0, 1]);
    await until(() => bounds[0] === 1, 'the offer to be over');
    expect(bounds).toEqual([1, 1]);
  });

  it('are none once they are closed, also for those that wait', async () => {
    const { take, bounds, close, taken } = places({ scripts: 1, queues: 2 });
    const first = (await take(0)) as Place;
    const second = take(1);
    close();
    expect(await second).toBeNull();
    first.leave();
    expect(await take(0)).toBeNull();
    expect([taken(), bounds]).toEqual([0, [0, 0]]);
  });
});
