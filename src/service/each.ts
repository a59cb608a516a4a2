/** A bounded number of things at a time. */

/**
 * The answers in the order of the items, of which each is asked for when there is room for it. The first failure, of the work or of whoever
 * gives the items, is thrown once what had begun is over; nothing more begins then. Items that come in their time come from a generator, which
 * may be asked for several at once.
 */
export async function eachAtOnce<T, R>(
  items: Iterable<T> | AsyncGenerator<T, void>,
  atOnce: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const answers: R[] = [];
  const failures: unknown[] = [];
  const source = Symbol.asyncIterator in items ? items : items[Symbol.iterator]();
  let asked = 0;
  const lane = async (): Promise<void> => {
    while (failures.length === 0) {
      const index = asked;
      asked += 1;
      try {
        const next = await source.next();
        if (next.done === true || failures.length > 0) return;
        answers[index] = await work(next.value);
      } catch (thrown) {
        failures.push(thrown);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  if (failures.length === 0) return answers;
  try {
    await source.return?.();
  } catch {
    // The first failure is the one to tell.
  }
  throw failures[0];
}
