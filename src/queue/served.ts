/** For how long servers have asked Redis without a longer pause: after one a missing lock, or a late tick, tells nothing of whoever had it. */
import { limits } from '../job/limits.ts';
import { redisNowMs } from '../redis/clock.ts';
import { keys } from '../redis/keys.ts';
import type { Queues } from './queues.ts';

/** Lua, of the fields `at` and `since` of what servers note; to be noted with `nowMs` as `at` whenever they look. */
export const SERVED_SINCE = `
local function servedSince(at, since, silentMs)
  local pausedMs = nowMs - tonumber(at or '0')
  if pausedMs > tonumber(silentMs) or pausedMs < 0 then return nowMs end
  return tonumber(since or '0')
end
`;

/** Whether Redis could not be asked within the last lock duration, as far as servers know: then a missing lock tells nothing of a worker. */
export async function wasSilent(queues: Queues): Promise<boolean> {
  return (await servedMs(queues)) < limits.lockDurationMs;
}

/** For how long servers have asked Redis without a longer pause, by its clock; 0 when they have just come back, or nothing is known. */
export async function servedMs({ redis }: Queues): Promise<number> {
  const [[at, since], nowMs] = await Promise.all([redis.hmget(keys.watch, 'at', 'since'), redisNowMs(redis)]);
  const silentMs = nowMs - Number(at ?? 0);
  return silentMs > limits.redisSilentMs || silentMs < 0 ? 0 : nowMs - Number(since);
}
