/** Waiting for a condition, never for a time. */

const POLL_MS = 15;

type Truthy<T> = Exclude<NonNullable<T>, false | 0 | ''>;

/** Resolves with the first truthy answer of `check`; rejects after the deadline, saying what never came. */
export async function until<T>(check: () => T | Promise<T>, what: string, deadlineMs = 30_000): Promise<Truthy<T>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const answer = await check();
    if (answer) return answer as Truthy<T>;
    if (performance.now() > deadline) throw new Error(`waited ${deadlineMs} ms for ${what}, last: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
