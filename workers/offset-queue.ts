/** A queue of what lies one behind the other in a file, looked up by where it begins. */

export interface OffsetQueue<T extends { offset: number }> {
  push(one: T): void;
  shift(): T | undefined;
  first(): T | undefined;
  last(): T | undefined;
  /** The one that begins there, and all behind it; nothing where none does. */
  from(offset: number): Iterable<T>;
  /** The first that begins behind it. */
  after(offset: number): T | undefined;
}

export function createOffsetQueue<T extends { offset: number }>(): OffsetQueue<T> {
  let all: T[] = [];
  /** Those before it are gone, and are removed now and then. */
  let first = 0;
  const indexAfter = (offset: number): number => {
    let low = first;
    let high = all.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((all[middle] as T).offset <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return {
    push: (one) => void all.push(one),
    shift: () => {
      const one = all[first];
      if (one === undefined) return undefined;
      first += 1;
      if (2 * first > all.length) {
        all = all.slice(first);
        first = 0;
      }
      return one;
    },
    first: () => all[first],
    last: () => (first < all.length ? all.at(-1) : undefined),
    after: (offset) => all[indexAfter(offset)],
    *from(offset) {
      const at = indexAfter(offset) - 1;
      if (at < first || (all[at] as T).offset !== offset) return;
      for (let index = at; index < all.length; index += 1) yield all[index] as T;
    },
  };
}
