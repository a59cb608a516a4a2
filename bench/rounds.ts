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

export async function measureFigure(figure: Figure, say: (line: string) => void): Promise<Measured[]> {
  const measured: Measured[] = figure.contenders.map((contender) => ({ contender, rounds: [], remarks: [], isFaulty: false }));
  const opened = new Map<Measured, Opened>();
  for (const one of measured) await openOne(one, opened);
  for (let round = 0; round < figure.rounds; round += 1) {
    // Each is the first in some rounds and the last in others.
    for (const one of rotated([...opened.keys()], round)) {
      say(`${figure.name}: round ${round + 1} of ${figure.rounds}: ${one.contender.name}`);
      one.rounds[round] = await measureOnce(one, opened.get(one) as Opened, round + 1);
    }
  }
  for (const [one, { close }] of opened) {
    await close().catch((cause) => blame(one, `at its end: ${oneLine(cause)}`));
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

async function measureOnce(one: Measured, opened: Opened, round: number): Promise<Values | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Void(`expected its end within ${ROUND_MS_MAX / 60_000} minutes`)), ROUND_MS_MAX);
  });
  try {
    return await Promise.race([opened.measure(), late]);
  } catch (cause) {
    blame(one, `round ${round} is void: ${oneLine(cause)}`);
    return null;
  } finally {
    clearTimeout(timer);
  }
}

function blame(one: Measured, remark: string): void {
  one.isFaulty = true;
  one.remarks.push(remark);
}

function rotated<T>(all: T[], by: number): T[] {
  const at = all.length === 0 ? 0 : by % all.length;
  return [...all.slice(at), ...all.slice(0, at)];
}
