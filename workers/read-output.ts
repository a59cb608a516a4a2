/** Reads one pipe of a script's output to its end. */
import { Socket } from 'node:net';
import { limits } from '../src/job/limits.ts';
import type { OutputPipe } from './sandbox/output-pipes.ts';

export interface Output {
  /** Rejects with what the taker of the output threw. */
  failed: Promise<never>;
  /** Resolves when the end was reached, or given up since nothing came for a while and nobody of the run is left to write. */
  drained(): Promise<'ended' | 'given-up'>;
  /** When the last of it came, by performance.now(); while a chunk is being taken it is not the script that is silent. */
  lastAtMs(): number;
  close(): void;
}

export function readOutput(pipe: OutputPipe, take: (chunk: Buffer) => void | Promise<void>): Output {
  const socket = new Socket({ fd: pipe.readEnd, readable: true, writable: false });
  const state = { taking: false, lastAtMs: performance.now(), givenUp: false };
  const ended = readAll(socket, state, take);
  ended.catch(() => undefined);
  return {
    failed: new Promise<never>((_, reject) => ended.catch(reject)),
    drained: () => {
      state.lastAtMs = performance.now();
      const timer = setInterval(() => {
        state.givenUp = !state.taking && performance.now() - state.lastAtMs > limits.outputHoldMs;
        if (state.givenUp) socket.destroy();
      }, limits.leftoverPollMsMax);
      return ended.finally(() => clearInterval(timer));
    },
    lastAtMs: () => (state.taking ? performance.now() : state.lastAtMs),
    close: () => void socket.destroy(),
  };
}

interface Reading {
  /** A chunk is being taken, so silence is not the writer's. */
  taking: boolean;
  lastAtMs: number;
  givenUp: boolean;
}

async function readAll(socket: Socket, state: Reading, take: (chunk: Buffer) => void | Promise<void>): Promise<'ended' | 'given-up'> {
  try {
    for await (const chunk of socket) {
      state.taking = true;
      await take(chunk as Buffer);
      state.taking = false;
      state.lastAtMs = performance.now();
    }
    return 'ended';
  } catch (cause) {
    if (state.givenUp) return 'given-up';
    throw cause;
  }
}
