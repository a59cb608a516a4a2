/** A worker's places: how many scripts run at a time, over all its platforms, and how many runs it has with those that are being stored. */
import { limits } from '../src/job/limits.ts';

export interface Place {
  /** The script has ended: another one may run while what this one left is stored. */
  onExecuted(): void;
  leave(): void;
}

export interface Places {
  /** Runs that have a place, or are being stored. */
  taken(): number;
  /** For a run that a queue has handed out; null where no place gets free within `limits.placeWaitMs`, and once they are closed. */
  take(queue: number): Promise<Place | null>;
  /** Nobody gets one any more. */
  close(): void;
}

export interface PlacesOptions {
  scripts: number;
  runs: number;
  queues: number;
  /** Told how many runs of a queue the worker may have from now on, with those that it has. */
  bound(queue: number, runs: number): void;
}

/**
 * Several queues may each hand out a run for the same place: a run that comes too late waits a moment, for giving it back costs as much as a short run. No
 * longer, since another worker may have a place; the next one that gets free is then offered to that queue alone, so that none starves.
 */
export function createPlaces({ scripts, runs, queues, bound }: PlacesOptions): Places {
  /** Of each queue, with those that wait for a place. */
  const handedOut = new Array<number>(queues).fill(0);
  const waiting: ((isGranted: boolean) => void)[] = [];
  /** Queues whose run went back, the longest ago first. */
  const owed: number[] = [];
  let offer: NodeJS.Timeout | undefined;
  let [executing, storing] = [0, 0];
  let closed = false;
  const room = (): number => Math.min(scripts - executing, runs - executing - storing);
  const settleDebt = (queue: number): void => {
    if (owed.includes(queue)) owed.splice(owed.indexOf(queue), 1);
  };
  const update = (): void => {
    for (; room() > 0 && waiting.length > 0; executing += 1) waiting.shift()?.(true);
    const offered = closed ? [] : owed.slice(0, room());
    const forAll = room() - offered.length;
    for (const [queue, count] of handedOut.entries()) {
      bound(queue, closed ? 0 : count + forAll + (offered.includes(queue) ? 1 : 0));
    }
    if (offered.length === 0) return;
    // Another worker may have taken what it had.
    offer ??= setTimeout(() => {
      offer = undefined;
      offered.forEach(settleDebt);
      update();
    }, limits.placeOfferMs);
  };
  const granted = async (): Promise<boolean> => {
    if (closed) return false;
    if (room() > 0) {
      executing += 1;
      return true;
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        waiting.splice(waiting.indexOf(end), 1);
        resolve(false);
      }, limits.placeWaitMs);
      const end = (isGranted: boolean): void => {
        clearTimeout(timer);
        resolve(isGranted);
      };
      waiting.push(end);
    });
  };
  const handBack = (queue: number): void => {
    handedOut[queue] = (handedOut[queue] as number) - 1;
    update();
  };
  return {
    taken: () => executing + storing,
    take: async (queue) => {
      handedOut[queue] = (handedOut[queue] as number) + 1;
      if (!(await granted())) {
        if (!owed.includes(queue)) owed.push(queue);
        handBack(queue);
        return null;
      }
      settleDebt(queue);
      update();
      let isExecuting = true;
      return {
        onExecuted: () => {
          isExecuting = false;
          executing -= 1;
          storing += 1;
          update();
        },
        leave: () => {
          if (isExecuting) executing -= 1;
          else storing -= 1;
          handBack(queue);
        },
      };
    },
    close: () => {
      closed = true;
      clearTimeout(offer);
      for (const end of waiting.splice(0)) end(false);
      update();
    },
  };
}
