/** Redis's clock, by which all that waits or expires here does: a jump of it shall neither end nor prolong anything. */
import { limits } from '../job/limits.ts';
import { bullActiveKey, bullJobKey, bullStalledCheckKey, keys, runQueue, TICK_QUEUE } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import { knownPlatforms } from './platform-sets.ts';
import type { Queues } from './queues.ts';
import { NOW } from './record-scripts.ts';

/** Moments that have been cannot be to come: after the clock went back they are now. KEYS sorted sets by time */
const capTimesScript = script(`
${NOW}
for i = 1, #KEYS do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], nowMs, '+inf')) do redis.call('ZADD', KEYS[i], nowMs, id) end
end
`);

/**
 * Lets nothing live longer than it may, as it does after the clock went back: the locks of a queue and the mark that it was looked through.
 * KEYS active, mark, then nothing: the names of locks are made of a prefix in the same slot. ARGV prefix, lock duration (ms)
 */
const capLivesScript = script(`
redis.call('DEL', KEYS[2])
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local lock = ARGV[1] .. id .. ':lock'
  if redis.call('PTTL', lock) > tonumber(ARGV[2]) then redis.call('PEXPIRE', lock, ARGV[2]) end
end
`);

/** Mends what a jump of the clock has moved; to be told, every second or so, what Redis's clock showed and when it was asked. */
export function createRedisClock(queues: Queues): (redisMs: number, askedAtMs: number) => Promise<void> {
  let last: { redisMs: number; ownMs: number; waitMs: number } | null = null;
  return async (redisMs, askedAtMs) => {
    const before = last;
    const ownMs = performance.now();
    last = { redisMs, ownMs, waitMs: ownMs - askedAtMs };
    if (before === null) return;
    const jumpMs = redisMs - before.redisMs - (ownMs - before.ownMs);
    // When within the wait Redis looked at its clock is not known: it may have been suspended.
    if (Math.abs(jumpMs) < limits.clockJumpMsMin + last.waitMs + before.waitMs) return;
    queues.logger.warn(
      { jumpMs: Math.round(jumpMs) },
      'the clock of Redis jumped: sessions and idempotency keys end so much sooner or later, nothing else does',
    );
    await capLives(queues);
  };
}

async function capLives(queues: Queues): Promise<void> {
  const platforms = await knownPlatforms(queues);
  await runScript(queues.redis, capTimesScript, [keys.accepting, keys.cancelling, ...platforms.map(keys.openRuns)], []);
  for (const queue of [TICK_QUEUE, ...platforms.map(runQueue)]) {
    const found = [bullActiveKey(queue), bullStalledCheckKey(queue)];
    await runScript(queues.redis, capLivesScript, found, [bullJobKey(queue, ''), limits.lockDurationMs]);
  }
}
