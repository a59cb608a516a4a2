/** A bound on how much of one kind is under way, over all who ask for it. */
export type Gate = <T>(work: () => Promise<T>) => Promise<T>;

/** At most so many at a time; the others wait in their order. */
export function createGate(atOnce: number): Gate {
  const waiting: (() => void)[] = [];
  let free = atOnce;
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      // The place goes from hand to hand.
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}
