/** Trying again while a server is away: growing pauses, an end, and one message each time the connection is lost. */
import { limits } from '../job/limits.ts';
import { asBuilderError, type ErrorCode } from '../service/errors.ts';
import { pause } from '../service/lifecycle.ts';

export interface Patience {
  /** The server has answered: the next loss starts a new count. */
  progress(): void;
  /** Resolves when it is time to try again; throws what went wrong once that is of no use any more. */
  retry(thrown: unknown): Promise<void>;
  /** The pause after an answer that was no fault but did not bring what is awaited. */
  again(): Promise<void>;
}

export interface PatienceOptions {
  signal: AbortSignal;
  say: (message: string) => void;
  reconnectMs?: number;
}

const PASSING: ErrorCode[] = ['unreachable', 'redis-unavailable', 'store-unavailable', 'store-full', 'internal'];

export function createPatience({ signal, say, reconnectMs = limits.followReconnectMs }: PatienceOptions): Patience {
  let lostAtMs: number | null = null;
  let pauseMs: number = limits.followPauseMs;
  return {
    progress: () => {
      lostAtMs = null;
      pauseMs = limits.followPauseMs;
    },
    retry: async (thrown) => {
      const error = asBuilderError(thrown);
      if (signal.aborted || !PASSING.includes(error.code)) throw error;
      const nowMs = performance.now();
      if (lostAtMs === null) say('connection lost; trying again');
      lostAtMs ??= nowMs;
      if (nowMs - lostAtMs >= reconnectMs) throw error;
      await pause(Math.min(pauseMs, lostAtMs + reconnectMs - nowMs), signal);
      pauseMs = Math.min(pauseMs * 2, limits.followPauseMsMax);
    },
    again: () => pause(limits.followPauseMs, signal),
  };
}
