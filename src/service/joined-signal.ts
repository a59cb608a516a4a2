/**
 * One signal for several. Unlike `AbortSignal.any` it leaves nothing with those that live as long as the program: that call keeps about 70 bytes
 * with each of them for ever (Node 20 and 24, measured), which runs and requests without number would add up.
 */
export interface JoinedSignal {
  /** Aborted with the first of them, for its reason. */
  signal: AbortSignal;
  /** From now on it is aborted by nothing any more. */
  release(): void;
}

/** `timeoutMs`: aborted then at the latest, unless `isExcused` gives it as much time again; it keeps no program alive. */
export function joinSignals(signals: readonly AbortSignal[], timeoutMs?: number, isExcused = (): boolean => false): JoinedSignal {
  const joined = new AbortController();
  const listeners = signals.map((signal) => ({ signal, act: () => joined.abort(signal.reason) }));
  for (const { signal, act } of listeners) {
    if (signal.aborted) act();
    else signal.addEventListener('abort', act, { once: true });
  }
  const late = (): void => {
    if (isExcused()) timer?.refresh();
    else joined.abort(new DOMException('expected it to be over in time', 'TimeoutError'));
  };
  const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs).unref();
  return {
    signal: joined.signal,
    release: () => {
      clearTimeout(timer);
      for (const { signal, act } of listeners) signal.removeEventListener('abort', act);
    },
  };
}
