/** Waits for whatever ends a script first: itself, its time, its silence, its hunger for disk, a cancellation, output that nobody takes. */
import { limits } from '../src/job/limits.ts';
import { after } from '../src/service/after.ts';
import { watchDisk } from './limits/disk-usage.ts';
import type { Output } from './read-output.ts';
import type { StartedScript } from './sandbox/sandbox.ts';

export type Ended = 'exited' | 'timed-out' | 'silent' | 'over-disk' | 'cancelled' | 'fault';

export interface Watched {
  started: StartedScript;
  outputs: readonly Output[];
  timeoutMs: number;
  /** Null: it may say nothing for as long as it likes. */
  silenceMs: number | null;
  /** What `folders` may hold together; null for any. */
  diskBytes: number | null;
  folders: string[];
  cancel: AbortSignal;
  /** Takes what stops the clocks that are set here. */
  clocks: (() => void)[];
}

export function endOfScript({ started, outputs, clocks, ...o }: Watched): Promise<Ended> {
  return new Promise((resolve) => {
    const onCancel = (): void => resolve('cancelled');
    started.leader.then(
      () => resolve('exited'),
      () => resolve('fault'),
    );
    for (const { failed } of outputs) failed.catch(() => resolve('fault'));
    o.cancel.addEventListener('abort', onCancel, { once: true });
    clocks.push(() => o.cancel.removeEventListener('abort', onCancel));
    clocks.push(after(o.timeoutMs, () => resolve('timed-out')));
    if (o.silenceMs !== null) clocks.push(whenSilent(outputs, o.silenceMs, () => resolve('silent')));
    if (o.diskBytes !== null) clocks.push(whenOverDisk(o.folders, o.diskBytes, () => resolve('over-disk')));
    if (o.cancel.aborted) onCancel();
  });
}

/** One timer whatever the amount of output: it is set anew for what is left when it fires. */
function whenSilent(outputs: readonly Output[], silenceMs: number, act: () => void): () => void {
  const begunAtMs = performance.now();
  let seemedSilent = false;
  const look = (): void => {
    const leftMs = Math.max(begunAtMs, ...outputs.map((output) => output.lastAtMs())) + silenceMs - performance.now();
    if (leftMs > 0) stop = after(leftMs, look);
    else if (seemedSilent) act();
    else stop = after(limits.silenceAgainMs, look);
    seemedSilent = leftMs <= 0;
  };
  let stop = after(silenceMs, look);
  return () => stop();
}

function whenOverDisk(folders: string[], bytes: number, onOver: () => void): () => void {
  const over = new AbortController();
  void watchDisk({ folders, bytes, onOver, signal: over.signal });
  return () => over.abort();
}
