/** The life of a program: resources released last in, first out; the first signal drains, the second forces. */
import { setMaxListeners } from 'node:events';
import { oneLine } from './errors.ts';
import type { Logger } from './logger.ts';

export type Release = () => Promise<void> | void;

export interface Lifecycle {
  /** Aborted by the first signal: take nothing new, finish what runs. */
  readonly draining: AbortSignal;
  /** Aborted by the second signal: end what runs now. */
  readonly forcing: AbortSignal;
  /** When it was last told to end, by performance.now(); null while nobody has. */
  toldAtMs(): number | null;
  /** Registers how to give a resource back; called in reverse order by `release`. */
  onRelease(name: string, release: Release, boundMs?: number): void;
  /** Ends the program as the first signal would; further calls force. */
  stop(reason: string): void;
  release(): Promise<void>;
}

/** How long one resource may take to be given back before the next one's turn comes. */
const RELEASE_MS_MAX = 10_000;

export function createLifecycle(logger: Logger): Lifecycle {
  const draining = new AbortController();
  const forcing = new AbortController();
  // Each run listens, and takes its listeners away.
  setMaxListeners(0, draining.signal, forcing.signal);
  const releases: { name: string; release: Release; boundMs: number }[] = [];
  let toldAtMs: number | null = null;
  const stop = (reason: string): void => {
    toldAtMs = performance.now();
    if (draining.signal.aborted) forcing.abort(reason);
    else draining.abort(reason);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal));
  return {
    draining: draining.signal,
    forcing: forcing.signal,
    toldAtMs: () => toldAtMs,
    onRelease: (name, release, boundMs = RELEASE_MS_MAX) => releases.push({ name, release, boundMs }),
    stop,
    release: async () => {
      for (const one of releases.splice(0).reverse()) await releaseOne(one, logger);
    },
  };
}

/** Resolves once a signal is aborted, at once if it already is. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

async function releaseOne({ name, release, boundMs }: { name: string; release: Release; boundMs: number }, logger: Logger): Promise<void> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), boundMs);
  try {
    await Promise.race([
      Promise.resolve(release()),
      aborted(late.signal).then(() => logger.warn({ resource: name }, 'not released in time; going on without it')),
    ]);
  } catch (cause) {
    logger.warn({ resource: name, error: oneLine(cause) }, 'could not be released');
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves after a time, or as soon as the signal is aborted. */
export function pause(pauseMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, signal.aborted ? 0 : pauseMs);
    signal.addEventListener('abort', end, { once: true });
  });
}
