/** Threads that read, hash and write files (file-thread.js): a few for a whole program, started when they are needed first. */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { limits } from '../job/limits.ts';
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

/** All of an open file into another, empty one; where it is longer than `bytes`, a little more than that. */
export interface CopyRequest {
  source: number;
  target: number;
  bytes: number;
}

/** `sha256` is of what was written. `failed` tells which of the two files the system's error is of. */
export type Copied = { copied: number; sha256: string } | { failed: 'source' | 'target'; code: string | undefined; message: string };

/** A small file in memory that is to be at `target`, whole and durable; by then it is at `temporary`. */
export interface WriteRequest {
  temporary: string;
  target: string;
  /** Folders that may have to be made, each behind the one that it lies in. */
  make: readonly string[];
  /** Folders whose names are to be durable too. */
  sync: readonly string[];
  content: Uint8Array<ArrayBuffer>;
}

/** `stop`: shared with the thread; it ends its work early once there is something else than 0. */
export interface Stoppable {
  stop: Int32Array;
}

export type Request = ((PutRequest | CopyRequest) & Stoppable) | { writes: readonly WriteRequest[] };
export type Answer = { files: (PutFile | null)[] } | Copied | { written: boolean[] };

/**
 * Null where no thread can be had, for a machine may allow no more of them, or where it ended: then nothing has been done, or a part. Those
 * that take a signal throw its reason once it is aborted.
 */
export interface FileThreads {
  /** One answer for each path: null for what is not as usual, and is left to others. */
  put(request: PutRequest, signal?: AbortSignal): Promise<(PutFile | null)[] | null>;
  /** Nothing reads or writes either file any more when it settles. */
  copy(request: CopyRequest, signal?: AbortSignal): Promise<Copied | null>;
  /** Of each whether it is done; where it is not, nothing stays but folders, and its target may have its name or not. Null as well while the first thread starts. */
  write(writes: readonly WriteRequest[]): Promise<boolean[] | null>;
}

interface Thread {
  /** Requests that it has: it goes on with another where one waits for the disk, and from time to time. */
  load(): number;
  /** It answers without the time that its start takes. */
  isReady(): boolean;
  /** Null when it ends before it has answered. */
  ask(request: Request): Promise<Answer | null>;
}

const PROGRAM = fileURLToPath(new URL('./file-thread.js', import.meta.url));
/** At least two: one works while another is held up. */
const THREADS = Math.max(2, Math.min(limits.fileThreadsMax, availableParallelism()));

/** Those of this program. */
export const fileThreads = createFileThreads();

function createFileThreads(): FileThreads {
  const threads: Thread[] = [];
  /** Where the machine allows no more of them. */
  let notBeforeMs = 0;
  const choose = (): Thread | null => {
    const [least = null] = threads.toSorted((one, other) => one.load() - other.load());
    if (least?.load() === 0 || threads.length === THREADS || performance.now() < notBeforeMs) return least;
    const another = startThread((ended) => {
      threads.splice(threads.indexOf(ended), 1);
      if (!ended.isReady()) notBeforeMs = performance.now() + limits.fileThreadRetryMs;
    });
    if (another !== null) threads.push(another);
    else notBeforeMs = performance.now() + limits.fileThreadRetryMs;
    return another ?? least;
  };
  const ask = async (request: PutRequest | CopyRequest, signal: AbortSignal | undefined): Promise<Answer | null> => {
    signal?.throwIfAborted();
    const stop = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const onAbort = (): void => void Atomics.store(stop, 0, 1);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const answer = await choose()?.ask({ ...request, stop });
      signal?.throwIfAborted();
      return answer ?? null;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  };
  return {
    put: async (request, signal) => ((await ask(request, signal)) as { files: (PutFile | null)[] } | null)?.files ?? null,
    copy: async (request, signal) => (await ask(request, signal)) as Copied | null,
    write: async (writes) => {
      const thread = choose();
      if (thread?.isReady() !== true) return null;
      return ((await thread.ask({ writes })) as { written: boolean[] } | null)?.written ?? null;
    },
  };
}

function startThread(onEnd: (thread: Thread) => void): Thread | null {
  const asked = new Map<number, (answer: Answer | null) => void>();
  let worker: Worker;
  try {
    worker = new Worker(PROGRAM);
  } catch {
    return null;
  }
  worker.unref();
  let isReady = false;
  let lastId = 0;
  const settle = (id: number, answer: Answer | null): void => {
    asked.get(id)?.(answer);
    asked.delete(id);
    // A program waits for its answers, and for nothing else of a thread.
    if (asked.size === 0) worker.unref();
  };
  const thread: Thread = {
    load: () => asked.size,
    isReady: () => isReady,
    ask: (request) => {
      lastId += 1;
      const id = lastId;
      worker.ref();
      worker.postMessage({ id, request });
      return new Promise((resolve) => asked.set(id, resolve));
    },
  };
  worker.on('online', () => {
    isReady = true;
    // Node keeps a program for a thread that has come to this meanwhile, whatever was said before.
    if (asked.size === 0) worker.unref();
  });
  worker.on('message', ({ id, answer }: { id: number; answer: Answer }) => settle(id, answer));
  // Its end follows; without a listener it would be that of the program.
  worker.on('error', () => undefined);
  worker.on('exit', () => {
    onEnd(thread);
    for (const id of asked.keys()) settle(id, null);
  });
  return thread;
}
