/** A bounded number of things at a time. */

/**
 * The answers in the order of the items, of which each is asked for when there is room for it. The first failure is thrown once what had
 * begun is over; nothing more begins then.
 */
export async function eachAtOnce<T, R>(items: Iterable<T> | AsyncIterable<T>, atOnce: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const answers: R[] = [];
  const failures: unknown[] = [];
  const source = inOrder(items);
  const lane = async (): Promise<void> => {
    while (failures.length === 0) {
      try {
        const { done, value } = await source.next();
        if (done === true || failures.length > 0) return;
        const [index, item] = value;
        answers[index] = await work(item);
      } catch (thrown) {
        failures.push(thrown);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  await source.return();
  if (failures.length > 0) throw failures[0];
  return answers;
}

async function* inOrder<T>(items: Iterable<T> | AsyncIterable<T>): AsyncGenerator<[index: number, item: T], void> {
  let index = 0;
  for await (const item of items) {
    yield [index, item];
    index += 1;
  }
}
