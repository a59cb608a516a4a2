/** Threads that read, hash and write files (file-thread.js): a few for a whole program, started when they are needed first. */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { limits } from '../job/limits.ts';
import { BuilderError, oneLine } from '../service/errors.ts';
import type { FoundFile } from './durable-names.ts';

/** Small regular files to be stored as blobs where they are not yet. */
export interface PutRequest {
  paths: readonly string[];
  /** The folder of the blobs, and that for temporary files on the same file system. */
  blobs: string;
  incoming: string;
  /** Longer ones are left alone. */
  bytesMax: number;
}

/** A blob that is there, whoever put it there; its name need not be durable yet. */
export interface PutFile {
  bytes: number;
  mode: number;
  sha256: string;
  found: FoundFile;
}

/** All of an open file into another, empty one; a byte more than `bytes` of it at most. */
export interface CopyRequest {
  source: number;
  target: number;
  bytes: number;
}

/** `sha256` is of what was written. `failed` tells which of the two files the system's error is of. */
export type Copied = { copied: number; sha256: string } | { failed: 'source' | 'target'; code: string | undefined; message: string };

/** `stop`: shared with the thread; it ends its work early once there is something else than 0. */
export type Request = PutRequest | (CopyRequest & { stop: Int32Array });
export type Answer = { files: (PutFile | null)[] } | Copied;

/** Both throw BuilderError `store-unavailable` where no thread can be started, and the signal's reason once it is aborted. */
export interface FileThreads {
  /** One answer for each path: null for what is not as usual, of which nothing has been done. */
  put(request: PutRequest, signal?: AbortSignal): Promise<(PutFile | null)[]>;
  /** Nothing reads or writes either file any more when it settles. */
  copy(request: CopyRequest, signal?: AbortSignal): Promise<Copied>;
}

interface Asked {
  request: Request;
  resolve(answer: Answer): void;
  reject(cause: unknown): void;
}

interface Thread {
  /** One request at a time. */
  ask(asked: Asked): void;
}

const PROGRAM = fileURLToPath(new URL('./file-thread.js', import.meta.url));
/** At least two: one works while another waits for the disk. */
const THREADS = Math.max(2, Math.min(limits.fileThreadsMax, availableParallelism()));

/** Those of this program. */
export const fileThreads = createFileThreads();

function createFileThreads(): FileThreads {
  const idle: Thread[] = [];
  const waiting: Asked[] = [];
  let count = 0;
  const onFree = (thread: Thread): void => {
    const next = waiting.shift();
    if (next === undefined) idle.push(thread);
    else thread.ask(next);
  };
  const onEnd = (thread: Thread): void => {
    count -= 1;
    if (idle.includes(thread)) idle.splice(idle.indexOf(thread), 1);
    const next = waiting.shift();
    if (next !== undefined) give(next);
  };
  const give = (asked: Asked): void => {
    const free = idle.pop();
    if (free !== undefined) free.ask(asked);
    else if (count === THREADS) waiting.push(asked);
    else {
      count += 1;
      startThread(onFree, onEnd).ask(asked);
    }
  };
  const ask = async (request: Request, signal: AbortSignal | undefined): Promise<Answer> => {
    signal?.throwIfAborted();
    const answer = await new Promise<Answer>((resolve, reject) => give({ request, resolve, reject }));
    signal?.throwIfAborted();
    return answer;
  };
  return {
    put: async (request, signal) => ((await ask(request, signal)) as { files: (PutFile | null)[] }).files,
    copy: async (request, signal) => {
      const stop = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
      const onAbort = (): void => void Atomics.store(stop, 0, 1);
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        return (await ask({ ...request, stop }, signal)) as Copied;
      } finally {
        signal?.removeEventListener('abort', onAbort);
      }
    },
  };
}

function startThread(onFree: (thread: Thread) => void, onEnd: (thread: Thread) => void): Thread {
  const worker = new Worker(PROGRAM);
  let current: Asked | null = null;
  let fault: unknown = 'its end';
  const thread: Thread = {
    ask: (asked) => {
      current = asked;
      // A program waits for its answers, and for nothing else of a thread.
      worker.ref();
      worker.postMessage(asked.request);
    },
  };
  worker.on('message', (answer: Answer) => {
    current?.resolve(answer);
    current = null;
    worker.unref();
    onFree(thread);
  });
  worker.on('error', (cause) => {
    fault = cause;
  });
  worker.on('exit', () => {
    current?.reject(new BuilderError('store-unavailable', `expected a thread for the files of a run, got ${oneLine(fault)}`));
    onEnd(thread);
  });
  return thread;
}
