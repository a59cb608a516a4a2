/** Measures the contenders of a figure in turn, so that what slows the machine for a while slows them all. */
import { oneLine } from '../src/service/errors.ts';
import { type Contender, type Figure, Missing, type Opened, type Values, Void } from './figure.ts';

export interface Measured {
  contender: Contender;
  /** A value per round; null for one that is void. */
  rounds: (Values | null)[];
  /** Why it was not measured, which rounds are void, what was found amiss at its end. */
  remarks: string[];
  /** Something was not as it must be: the bench fails. */
  isFaulty: boolean;
}

/** What has not come to its end by then never will. */
const ROUND_MS_MAX = 15 * 60_000;
const CLOSE_MS_MAX = 2 * 60_000;

export async function measureFigure(figure: Figure, say: (line: string) => void): Promise<Measured[]> {
  const measured: Measured[] = figure.contenders.map((contender) => ({ contender, rounds: [], remarks: [], isFaulty: false }));
  const opened = new Map<Measured, Opened>();
  for (const one of measured) await openOne(one, opened);
  const late = new Set<Measured>();
  for (let round = 0; round < figure.rounds; round += 1) {
    // Each is the first in some rounds and the last in others.
    for (const one of rotated([...opened.keys()], round)) {
      // What was given up may still be at work, and would be measured with what comes after it.
      if (late.has(one)) continue;
      say(`${figure.name}: round ${round + 1} of ${figure.rounds}: ${one.contender.name}`);
      try {
        one.rounds[round] = await within(ROUND_MS_MAX, (opened.get(one) as Opened).measure());
      } catch (cause) {
        blame(one, `round ${round + 1} is void: ${oneLine(cause)}`);
        one.rounds[round] = null;
        if (cause instanceof Late) late.add(one);
      }
    }
  }
  for (const [one, { close }] of opened) {
    await within(CLOSE_MS_MAX, close()).catch((cause) => {
      blame(one, `all rounds are void: at its end: ${oneLine(cause)}`);
      one.rounds = one.rounds.map(() => null);
    });
  }
  return measured;
}

async function openOne(one: Measured, opened: Map<Measured, Opened>): Promise<void> {
  try {
    opened.set(one, await one.contender.open());
  } catch (cause) {
    if (cause instanceof Missing) one.remarks.push(`not measured: ${cause.message}`);
    else blame(one, `not measured: ${oneLine(cause)}`);
  }
}

class Late extends Void {}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(`expected its end within ${ms / 60_000} minutes`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function blame(one: Measured, remark: string): void {
  one.isFaulty = true;
  one.remarks.push(remark);
}

function rotated<T>(all: T[], by: number): T[] {
  const at = all.length === 0 ? 0 : by % all.length;
  return [...all.slice(at), ...all.slice(0, at)];
}
