import { expect, it } from '@jest/globals';
import { runChaos } from '../chaos/chaos.ts';

/** Of `make chaos`; a part of it, under a seed of its own each time, belongs to the ordinary suite. */
const MINUTES = Number(process.env.CHAOS_MINUTES || 2);
const SEED = Number(process.env.CHAOS_SEED || Math.floor(Math.random() * 1_000_000));
const RECONCILED_MS = 240_000;

it(
  `chaos: whatever fails, every accepted run ends once, with its whole log and the right bytes (seed ${SEED})`,
  async () => {
    const say = (text: string): void => void process.stderr.write(`${text}\n`);
    const { differences, ...figures } = await runChaos({ seed: SEED, minutes: MINUTES, say });
    say(`chaos: ${JSON.stringify(figures, null, 2)}`);
    for (const difference of differences) say(`chaos: ${difference}`);
    expect(differences).toEqual([]);
  },
  MINUTES * 60_000 + RECONCILED_MS,
);
