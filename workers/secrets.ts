/** The secrets that this worker was given, and those of them that a run asks for. */
import { createMask, type Mask } from './masker.ts';

export interface Secrets {
  choose(names: readonly string[]): ChosenSecrets | { unknown: string[] };
}

export interface ChosenSecrets {
  /** Variables for the script. */
  env: Record<string, string>;
  mask: Mask;
}

/** Masks are made once for each set of secrets that runs ask for; these many are remembered. */
const MASKS_MAX = 32;

export function createSecrets(values: ReadonlyMap<string, string>): Secrets {
  const masks = new Map<string, Mask>();
  return {
    choose: (names) => {
      const wanted = [...new Set(names)].sort();
      const unknown = wanted.filter((name) => !values.has(name));
      if (unknown.length > 0) return { unknown };
      const chosen = wanted.map((name): [string, string] => [name, values.get(name) ?? '']);
      const key = wanted.join(' ');
      const mask = masks.get(key) ?? createMask(chosen.map(([, value]) => value));
      masks.delete(key);
      masks.set(key, mask);
      for (const oldest of masks.keys()) {
        if (masks.size <= MASKS_MAX) break;
        masks.delete(oldest);
      }
      return { env: Object.fromEntries(chosen), mask };
    },
  };
}
