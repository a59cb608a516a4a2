/** What the bench says of its rounds, and what its gate says of what was kept. */
import { expect, test } from '@jest/globals';
import type { Contender, Figure, Values } from '../../bench/figure.ts';
import { Missing, Void } from '../../bench/figure.ts';
import type { Machine } from '../../bench/machine.ts';
import { drops, keptWith, unlike } from '../../bench/regression.ts';
import { measureFigure } from '../../bench/rounds.ts';
import { type Summary, summarize } from '../../bench/summary.ts';

const VOID = new Void('expected this, got that');
const machine = { cpu: 'one', cores: 2 } as Machine;

/** A contender whose rounds give these rates, or throw. */
function contender(name: string, rounds: (number | Error)[], o: { open?: Error; close?: Error } = {}): Contender {
  const left = [...rounds];
  const measure = async (): Promise<Values> => {
    const next = left.shift();
    if (next instanceof Error) throw next;
    return { rate: next ?? Number.NaN };
  };
  const close = async (): Promise<void> => {
    if (o.close !== undefined) throw o.close;
  };
  return {
    name,
    kind: 'builder',
    setting: '',
    open: async () => {
      if (o.open !== undefined) throw o.open;
      return { measure, close };
    },
  };
}

async function measured(contenders: Contender[], goal: { better?: 'more' | 'less'; allowance?: number } = {}): Promise<Summary> {
  const { better = 'more', allowance = 0 } = goal;
  const against = contenders.slice(1).map(({ name }) => name);
  const figure: Figure = {
    name: 'figure',
    title: '',
    statistics: [{ name: 'rate', unit: '', better }],
    rounds: 3,
    contenders,
    goals: [
      {
        statistic: 'rate',
        contender: 'builder',
        against,
        ratio: 2,
        allowance,
      },
    ],
  };
  return summarize(figure, await measureFigure(figure, () => undefined));
}

test('a ratio is of values of the same round, whatever rounds are void', async () => {
  const { verdicts, rows } = await measured([contender('builder', [10, VOID, 30]), contender('peer', [5, 1000, 10])]);
  expect(verdicts).toMatchObject([{ ratio: { median: 2.5, low: 2, high: 3 }, baseline: 'peer', met: true }]);
  expect(rows).toMatchObject([
    { isFaulty: true, remarks: ['round 2 is void: expected this, got that'] },
    { isFaulty: false, remarks: [] },
  ]);
});

test('the best baseline counts; one that is not there is told, and is no fault', async () => {
  const peers = [
    contender('slow', [1, 1, 1]),
    contender('quick', [10, 10, 10]),
    contender('absent', [], { open: new Missing('it is not installed') }),
  ];
  const { verdicts, rows } = await measured([contender('builder', [10, 10, 10]), ...peers]);
  expect(verdicts).toMatchObject([{ ratio: { median: 1 }, baseline: 'quick', met: false }]);
  expect(rows[3]).toMatchObject({ value: null, isFaulty: false, remarks: ['not measured: it is not installed'] });
});

test('what breaks in the middle or at the end costs its own contender alone, and is a fault', async () => {
  const broken = [
    contender('breaks', [new Error('it broke'), 5, 5]),
    contender('closes badly', [5, 5, 5], { close: new Error('it stayed') }),
    contender('opens badly', [], { open: new Error('it would not') }),
  ];
  const { verdicts, rows } = await measured([contender('builder', [10, 10, 10]), ...broken]);
  expect(verdicts).toMatchObject([{ ratio: { median: 2 }, baseline: 'breaks', met: true }]);
  expect(rows.slice(1).map(({ isFaulty, remarks }) => [isFaulty, ...remarks])).toEqual([
    [true, 'round 1 is void: it broke'],
    [true, 'all rounds are void: at its end: it stayed'],
    [true, 'not measured: it would not'],
  ]);
});

test('an allowance counts for the goal, not for the ratio that is shown', async () => {
  const { verdicts } = await measured([contender('builder', [24, 24, 24]), contender('limit', [2, 2, 2])], {
    better: 'less',
    allowance: 20,
  });
  expect(verdicts).toMatchObject([{ ratio: { median: 12 }, wanted: '≤ 2 × + 20', met: true }]);
});

test('the gate fails on a drop below all that was kept, whichever baseline wins now, and on what was kept and is not measured', async () => {
  const of = (rates: number[], one: number, other: number): Promise<Summary> =>
    measured([contender('builder', rates), contender('one', [one, one, one]), contender('other', [other, other, other])]);
  const first = keptWith(null, { size: 'short', machine, ...(await of([10, 12, 14], 10, 5)) });
  const both = keptWith(first, { size: 'short', machine, ...(await of([9, 11, 13], 5, 10)) });
  expect(Object.values(both.ratios)).toEqual([{ median: 1.1, low: 0.9, high: 1.4 }]);
  // A fifth more than the spread is what two measurements of one program may differ by.
  expect(drops(both, await of([7, 7.3, 20], 5, 10), true)).toEqual([]);
  expect(drops(both, await of([7, 7.1, 20], 5, 10), true)).toMatchObject([
    expect.stringContaining('expected a ratio of 1.100 (0.900 … 1.400), got 0.710'),
  ]);
  const name = 'figure rate: builder : one | other';
  expect(drops(both, await measured([contender('builder', [10, 10, 10]), contender('new', [5, 5, 5])]), true)).toEqual([
    `not measured: ${name}`,
  ]);
  const absent = contender('other', [], { open: new Missing('it is not installed') });
  const without = await measured([contender('builder', [20, 20, 20]), contender('one', [5, 5, 5]), absent]);
  expect(drops(both, without, true)).toEqual([`not measured: ${name}: without other`]);
  expect(keptWith(null, { size: 'short', machine, ...without }).ratios).toEqual({});
  expect(drops(both, { rows: [], verdicts: [] }, true)).toEqual([`not measured: ${name}`]);
  // Of figures that were not asked for nothing is said.
  expect(drops(both, { rows: [], verdicts: [] }, false)).toEqual([]);
});

test('ratios of another size, or of another machine, are not compared', () => {
  const kept = { size: 'short', machine, ratios: {} } as const;
  expect(unlike(kept, { size: 'short', machine })).toBeNull();
  expect(unlike(kept, { size: 'full', machine })).toBe(
    'expected the short size on 2 cores, one, as what is kept, got the full size on 2 cores, one',
  );
  expect(unlike(kept, { size: 'short', machine: { ...machine, cores: 4 } })).toMatch(/got the short size on 4 cores/);
});
