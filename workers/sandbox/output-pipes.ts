/**
 * Pipes for scripts' output. Node gives its children sockets, in which `echo x > /dev/stderr` fails; so named pipes are made,
 * many by one small process, opened and unlinked at once.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { limits } from '../../src/job/limits.ts';
import { BuilderError } from '../../src/service/errors.ts';

/** Part of coreutils and of busybox, in the same place. */
const MKFIFO = '/usr/bin/mkfifo';

export interface OutputPipe {
  /** Does not block. */
  readEnd: number;
  writeEnd: number;
}

export interface OutputPipes {
  takeTwo(): Promise<[OutputPipe, OutputPipe]>;
  /** Closes those that nobody has taken. */
  close(): void;
}

/** `folder` is where they have names for a moment: one that is swept, should the worker be killed in that very moment. */
export function createOutputPipes(folder: string): OutputPipes {
  const ready: number[] = [];
  let filling: Promise<void> | null = null;
  const fill = async (): Promise<void> => {
    filling ??= makePipes(folder, ready).finally(() => {
      filling = null;
    });
    await filling;
  };
  return {
    takeTwo: async () => {
      while (ready.length < 2) await fill();
      const first = openBothEnds(ready.pop() as number);
      try {
        return [first, openBothEnds(ready.pop() as number)];
      } catch (cause) {
        for (const fd of [first.readEnd, first.writeEnd]) closeSync(fd);
        throw cause;
      }
    },
    close: () => {
      for (const fd of ready.splice(0)) closeSync(fd);
    },
  };
}

/** A pipe is kept by one descriptor; through /proc each end is opened from it, with a mode and flags of its own. */
function openBothEnds(fd: number): OutputPipe {
  const path = `/proc/self/fd/${fd}`;
  const readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writeEnd = openSync(path, constants.O_WRONLY);
  closeSync(fd);
  return { readEnd, writeEnd };
}

async function makePipes(parent: string, ready: number[]): Promise<void> {
  const folder = await mkdtemp(join(parent, 'pipes-'));
  try {
    const names = Array.from({ length: limits.pipesAtOnce }, (_, index) => join(folder, String(index)));
    await mkfifo(names);
    for (const name of names) ready.push(openSync(name, constants.O_RDWR | constants.O_NONBLOCK));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function mkfifo(names: string[]): Promise<void> {
  const { failed, shortMessage } = await execa(MKFIFO, ['-m', '600', ...names], {
    reject: false,
    stdio: 'ignore',
    env: {},
    extendEnv: false,
  });
  if (failed) throw new BuilderError('internal', `expected pipes for a script's output, got: ${shortMessage}`);
}
