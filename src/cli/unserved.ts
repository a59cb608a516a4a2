/** Says of platforms that nobody works on: a misspelt name would wait for years. */
import { nearestName, noWorkerText } from '../job/nearest.ts';
import { BuilderError } from '../service/errors.ts';
import type { Platform } from './client.ts';
import type { Session } from './command.ts';

/** One line for each that no living worker takes, with the name that was perhaps meant. What cannot be asked is not said. */
export async function sayUnserved({ client, output }: Session, platforms: string[]): Promise<void> {
  const known = await client().platforms().catch(nothing);
  const served = known.filter(({ workers }) => workers > 0).map(({ name }) => name);
  for (const platform of known.length === 0 ? [] : new Set(platforms)) {
    if (!served.includes(platform)) output.say(`builder: ${noWorkerText(platform, nearestName(platform, served))}`);
  }
}

function nothing(cause: unknown): Platform[] {
  if (cause instanceof BuilderError) return [];
  throw cause;
}
