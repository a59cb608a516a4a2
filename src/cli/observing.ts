/** What `run`, `execute --follow` and the two `observe` share: follow, say how it ended, answer the exit code. */
import { exitCodeOf } from '../job/outcome.ts';
import type { Run } from '../job/run.ts';
import type { Options, Session, Values } from './command.ts';
import { type Followed, followRun } from './follow.ts';
import { interruptSignal } from './io.ts';
import { given, wholeNumber } from './job-options.ts';
import { visible } from './output.ts';

export const EXIT_ZERO = {
  'exit-zero': { kind: 'flag', describe: 'Exit with 0 whatever the outcome' },
} as const satisfies Options;

export const OBSERVE_OPTIONS = {
  from: { kind: 'text', describe: 'Begin at this LINE (default 1)' },
  'no-follow': { kind: 'flag', describe: 'Print what is there, and end' },
  ...EXIT_ZERO,
} as const satisfies Options;

/** builder itself failed while following (the contract's exit codes). */
const FAULT_EXIT = 125;

export interface ObserveOptions {
  from: number;
  follow: boolean;
  exitZero: boolean;
  /** This attempt alone. */
  attempt?: number;
  /** How long a server may be away (default limits.followReconnectMs). */
  reconnectMs?: number;
}

export function readObserveOptions(args: Values<Record<never, never>, typeof OBSERVE_OPTIONS>): ObserveOptions {
  const from = wholeNumber('from', args.from, { least: 1, most: Number.MAX_SAFE_INTEGER }) ?? 1;
  return { from, follow: !args['no-follow'], exitZero: args['exit-zero'] };
}

/** Ctrl-C from the call of `begin` on detaches from the run that it answers, and does not end it. */
export async function observeRun(session: Session, begin: () => Promise<Run>, options: ObserveOptions): Promise<number> {
  return observeRuns(session, async () => [await begin()], options);
}

/** One after the other; the exit code is the first that is not 0. */
export async function observeRuns(session: Session, begin: () => Promise<Run[]>, options: ObserveOptions): Promise<number> {
  const { io, output } = session;
  const interrupt = interruptSignal(io);
  try {
    const runs = await begin();
    let exit = 0;
    for (const run of runs) {
      if (runs.length > 1) output.say(`run ${run.id} on ${run.platform}`);
      const followed = await followRun({
        client: session.client(),
        run,
        from: options.from,
        follow: options.follow,
        output,
        colour: io.colour(io.stdout),
        signal: interrupt.signal,
        ...given('attempt', options.attempt),
        ...given('reconnectMs', options.reconnectMs),
      });
      const code = conclude(session, run.id, followed);
      if (followed.kind === 'detached' || followed.kind === 'given-up') return code;
      exit ||= code;
    }
    return options.exitZero ? 0 : exit;
  } finally {
    interrupt.dispose();
  }
}

function conclude({ output }: Session, id: string, followed: Followed): number {
  switch (followed.kind) {
    case 'ended':
      if (followed.run.outcome !== null && followed.run.outcome !== 'succeeded') output.say(`builder: ${endingOf(followed.run)}`);
      return exitOf(followed.run);
    case 'open':
      return 0;
    case 'detached':
      output.say(
        `detached; the run goes on\n  observe it: builder observe ${id}${fromFlag(followed.nextLine)}\n  cancel it:  builder cancel ${id}`,
      );
      return 0;
    case 'given-up':
      output.fail(followed.error, `; the run may go on: builder observe ${id}${fromFlag(followed.nextLine)}`);
      return FAULT_EXIT;
  }
}

/** `failed with exit code 3` or `timed-out: …`: outcome and reason on one line. */
export function endingOf(run: Run): string {
  if (run.reason?.startsWith(`${run.outcome}:`)) return visible(run.reason);
  const how =
    run.outcome === 'failed' && run.exitCode !== null ? ` with exit code ${run.exitCode}` : run.signal !== null ? ` by ${run.signal}` : '';
  return `${run.outcome ?? run.state}${how}${run.reason === null ? '' : `: ${visible(run.reason)}`}`;
}

function exitOf(run: Run): number {
  return run.outcome === null ? 0 : exitCodeOf({ outcome: run.outcome, exitCode: run.exitCode, signal: run.signal });
}

function fromFlag(line: number): string {
  return line > 1 ? ` --from ${line}` : '';
}
