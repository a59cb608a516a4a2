import { limits } from '../job/limits.ts';

/** A timer that also holds a month, which Node’s own takes for a millisecond; returns what stops it. */
export function after(delayMs: number, act: () => void): () => void {
  const partMs = Math.min(delayMs, limits.timerMsMax);
  let stopRest = (): void => undefined;
  const timer = setTimeout(() => {
    if (partMs < delayMs) stopRest = after(delayMs - partMs, act);
    else act();
  }, partMs);
  return () => {
    clearTimeout(timer);
    stopRest();
  };
}
