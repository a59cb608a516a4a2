/** Measures the contenders of a figure in turn, so that what slows the machine for a while slows them all. */
import { type Contender, type Figure, Missing, type Opened, type Values, Void } from './figure.ts';

export interface Measured {
  contender: Contender;
  /** A value per round that was not void. */
  rounds: Values[];
  /** Why it was not measured, or which rounds were void. */
  remarks: string[];
}

export async function measureFigure(figure: Figure, say: (line: string) => void): Promise<Measured[]> {
  const measured: Measured[] = figure.contenders.map((contender) => ({ contender, rounds: [], remarks: [] }));
  const opened = new Map<Measured, Opened>();
  try {
    for (const one of measured) {
      try {
        opened.set(one, await one.contender.open());
      } catch (cause) {
        if (!(cause instanceof Missing)) throw cause;
        one.remarks.push(`not measured: ${cause.message}`);
      }
    }
    for (let round = 0; round < figure.rounds; round += 1) {
      // Each is the first in some rounds and the last in others.
      for (const one of rotated([...opened.keys()], round)) {
        say(`${figure.name}: round ${round + 1} of ${figure.rounds}: ${one.contender.name}`);
        await measureOnce(one, opened.get(one) as Opened, round + 1);
      }
    }
    return measured;
  } finally {
    for (const one of opened.values()) await one.close();
  }
}

async function measureOnce(one: Measured, opened: Opened, round: number): Promise<void> {
  try {
    one.rounds.push(await opened.measure());
  } catch (cause) {
    if (!(cause instanceof Void)) throw cause;
    one.remarks.push(`round ${round} is void: ${cause.message}`);
  }
}

function rotated<T>(all: T[], by: number): T[] {
  const at = all.length === 0 ? 0 : by % all.length;
  return [...all.slice(at), ...all.slice(0, at)];
}
