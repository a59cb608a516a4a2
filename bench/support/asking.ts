/** How long answers of a server take. */
import { median } from '../summary.ts';
import type { BenchPool } from './pool.ts';

/** The median time (ms) of each question, asked in turn so many times; throws for an answer that is none. */
export async function answerTimes(pool: BenchPool, questions: Record<string, string>, times: number): Promise<Record<string, number>> {
  const tookMs = new Map(Object.keys(questions).map((name): [string, number[]] => [name, []]));
  for (let n = 0; n < times; n += 1) {
    for (const [name, path] of Object.entries(questions)) {
      const begunAtMs = performance.now();
      const answer = await fetch(`${pool.url}${path}`, {
        headers: { authorization: `Bearer ${pool.token}`, accept: 'application/json, text/html' },
      });
      await answer.arrayBuffer();
      if (!answer.ok) throw new Error(`GET ${path}: ${answer.status}`);
      tookMs.get(name)?.push(performance.now() - begunAtMs);
    }
  }
  return Object.fromEntries([...tookMs].map(([name, all]) => [name, median(all)]));
}
