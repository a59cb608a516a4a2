/** Open runs that no worker would ever be given: BullMQ has lost their job, or has ended it without a result. */
import { limits } from '../job/limits.ts';
import { bullJobKey, keys, runQueue } from '../redis/keys.ts';
import { runScript } from '../redis/script.ts';
import { requeue } from './cancel.ts';
import { eachRun } from './each-run.ts';
import { knownPlatforms } from './platform-sets.ts';
import type { Queues } from './queues.ts';
import { strandedScript } from './record-scripts.ts';
import { readRecord } from './records.ts';

/** Looked at in one step of Redis: about a millisecond of its time. */
const PAGE = 1_000;

/** Queues them again. Any number of servers may do so at once; what one of them fails at is for the next round. */
export async function requeueStranded(queues: Queues): Promise<void> {
  for (const platform of await knownPlatforms(queues)) {
    await eachRun(queues, await strandedOf(queues, platform), async (id) => {
      const record = await readRecord(queues.redis, id);
      if (record === null || record.result !== null) return;
      await requeue(queues, record);
      queues.logger.warn({ run: id, platform }, 'an open run was in no queue; it is queued again');
    });
  }
}

/** Runs that end meanwhile move those behind them: what is passed over is found the next time. */
async function strandedOf(queues: Queues, platform: string): Promise<string[]> {
  const stranded: string[] = [];
  for (let first = 0; ; first += PAGE) {
    const args = [bullJobKey(runQueue(platform), ''), limits.acceptingGraceMs, first, PAGE];
    const [looked = 0, ...ids] = (await runScript(queues.redis, strandedScript, [keys.openRuns(platform)], args)) as [number, ...string[]];
    stranded.push(...ids);
    if (looked < PAGE) return stranded;
  }
}
