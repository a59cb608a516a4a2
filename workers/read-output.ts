/** Reads both pipes of a script's output to their ends, in the order in which the kernel says that something has come. */
import { Socket } from 'node:net';
import { limits } from '../src/job/limits.ts';

export interface Output {
  /** Rejects with what the taker of the output threw. */
  failed: Promise<never>;
  /** Resolves when the end was reached, or given up since nothing came for a while and nobody of the run is left to write. */
  drained(): Promise<'ended' | 'given-up'>;
  /** When the last of it came, by performance.now(); while a chunk is being taken it is not the script that is silent. */
  lastAtMs(): number;
  close(): void;
}

/** Called at once with what has come; where it returns a promise, no more than limits.outputTakenBytesMax are taken beside it. */
export type TakeOutput = (source: 'stdout' | 'stderr', chunk: Buffer) => void | Promise<void>;

export function readOutputs(pipes: { stdout: number; stderr: number }, take: TakeOutput): Output[] {
  const sockets = { stdout: socketOf(pipes.stdout), stderr: socketOf(pipes.stderr) };
  const intake = createIntake(Object.values(sockets));
  return (['stdout', 'stderr'] as const).map((source) => readOutput(sockets[source], intake, (chunk) => take(source, chunk)));
}

function socketOf(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: false });
}

/** What is being taken, of both sides together: one that waited alone would be overtaken by the other. */
function createIntake(sockets: Socket[]): { add(bytes: number): void; remove(bytes: number): void; stillSinceMs(): number } {
  let bytes = 0;
  let lastAtMs = performance.now();
  return {
    /** Since when nothing of either side is being taken: a side that is held up by the other one has no chance to say anything. */
    stillSinceMs: () => (bytes > 0 ? performance.now() : lastAtMs),
    add: (more) => {
      bytes += more;
      if (bytes > limits.outputTakenBytesMax) for (const socket of sockets) socket.pause();
    },
    remove: (done) => {
      bytes -= done;
      lastAtMs = performance.now();
      if (bytes <= limits.outputTakenBytesMax / 2) for (const socket of sockets) socket.resume();
    },
  };
}

function readOutput(socket: Socket, intake: ReturnType<typeof createIntake>, take: (chunk: Buffer) => void | Promise<void>): Output {
  const state = { taking: 0, lastAtMs: performance.now(), givenUp: false };
  const takeOne = async (chunk: Buffer): Promise<void> => {
    state.taking += 1;
    intake.add(chunk.length);
    try {
      await take(chunk);
    } catch (cause) {
      socket.destroy(cause as Error);
    } finally {
      state.taking -= 1;
      state.lastAtMs = performance.now();
      intake.remove(chunk.length);
    }
  };
  const ended = new Promise<'ended' | 'given-up'>((resolve, reject) => {
    let last = Promise.resolve();
    socket.on('data', (chunk: Buffer) => {
      last = takeOne(chunk);
    });
    socket.on('error', reject);
    // Chunks are done in their order, so that the last one is the last to be.
    socket.on('close', () => void last.then(() => resolve(state.givenUp ? 'given-up' : 'ended')));
  });
  ended.catch(() => undefined);
  return {
    failed: new Promise<never>((_, reject) => ended.catch(reject)),
    drained: () => {
      state.lastAtMs = performance.now();
      const timer = setInterval(() => {
        const stillSinceMs = Math.max(state.lastAtMs, intake.stillSinceMs());
        state.givenUp = performance.now() - stillSinceMs > limits.outputHoldMs;
        if (state.givenUp) socket.destroy();
      }, limits.leftoverPollMsMax);
      return ended.finally(() => clearInterval(timer));
    },
    lastAtMs: () => (state.taking > 0 ? performance.now() : state.lastAtMs),
    close: () => void socket.destroy(),
  };
}
