/** The moment at which a script does its first thing: it writes a line into a pipe, which its shell does by itself. */
import { execFileSync } from 'node:child_process';
import { constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { Void } from '../figure.ts';

const WAIT_MS_MAX = 30_000;

export interface FirstInstructions {
  /** The script; /bin/sh -e executes it for builder as for the baseline. */
  script: string;
  /** Resolves with the moment of the next first instruction, as `now` tells moments; rejects with Void where none comes. */
  next(): Promise<number>;
  close(): void;
}

/** `folder` is seen by the scripts. */
export function watchFirstInstructions(folder: string): FirstInstructions {
  const path = `${folder}/first-instruction`;
  execFileSync('mkfifo', [path]);
  // For writing too: else the pipe would end with each script.
  const pipe = new Socket({ fd: openSync(path, constants.O_RDWR | constants.O_NONBLOCK), readable: true, writable: false });
  let heard: (atMs: number) => void = () => undefined;
  pipe.on('data', () => heard(now()));
  return {
    script: `echo > '${path}'\n`,
    next: () =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Void('expected the first instruction of a script, got none')), WAIT_MS_MAX);
        heard = (atMs) => {
          clearTimeout(timer);
          resolve(atMs);
        };
      }),
    close: () => pipe.destroy(),
  };
}

/** Milliseconds since 1970 with their fractions: the monotonic clock, laid beside the wall clock once for a round. */
export function now(): number {
  return performance.now() + offsetMs;
}

let offsetMs = 0;

/** Waits for the wall clock's next millisecond; the two drift apart within minutes. */
export function alignClocks(): void {
  const before = Date.now();
  while (Date.now() === before);
  offsetMs = Date.now() - performance.now();
}
