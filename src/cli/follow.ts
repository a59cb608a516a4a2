/** Following a log to its end, over lost connections and later attempts. */

import type { LogEntry } from '../job/log-entry.ts';
import { textOf } from '../job/log-entry.ts';
import type { Run } from '../job/run.ts';
import { asBuilderError, type BuilderError } from '../service/errors.ts';
import type { Client } from './client.ts';
import type { LogRecord } from './log-records.ts';
import type { Output } from './output.ts';
import { createPatience, type Patience } from './patience.ts';

export interface FollowOptions {
  client: Pick<Client, 'log' | 'run'>;
  run: Run;
  /** First line wanted, from 1. */
  from: number;
  /** False: what is there, and no more. */
  follow: boolean;
  /** This attempt alone, to its end. */
  attempt?: number;
  output: Output;
  colour: boolean;
  /** Aborted: detach at once. */
  signal: AbortSignal;
  reconnectMs?: number;
}

/** `nextLine` is where observing again would go on. */
export type Followed =
  | { kind: 'ended'; run: Run }
  | { kind: 'open'; run: Run }
  | { kind: 'detached'; nextLine: number }
  | { kind: 'given-up'; error: BuilderError; nextLine: number };

interface Position {
  attempt: number;
  line: number;
}

/** Prints a log in order, every line once, and tells how following ended; never throws for what the server does. */
export async function followRun(o: FollowOptions): Promise<Followed> {
  const patience = createPatience({
    signal: o.signal,
    say: o.output.say,
    ...(o.reconnectMs === undefined ? {} : { reconnectMs: o.reconnectMs }),
  });
  const position: Position = { attempt: o.attempt ?? o.run.attempt, line: Math.max(1, o.from) };
  try {
    return await followWith(o, patience, position);
  } catch (thrown) {
    if (o.signal.aborted) return { kind: 'detached', nextLine: position.line };
    return { kind: 'given-up', error: asBuilderError(thrown), nextLine: position.line };
  }
}

async function followWith(o: FollowOptions, patience: Patience, position: Position): Promise<Followed> {
  for (let run = o.run; ; ) {
    const read = await readOnce(o, patience, position);
    if (read === 'end') return { kind: 'ended', run: await finishedRun(o, patience) };
    const wasFinished = run.state === 'finished';
    run = await currentRun(o, patience);
    if (read === 'whole') {
      // What ended between the log and this look at the run may have written more: only a log read after it is whole.
      if (wasFinished) return { kind: 'ended', run };
      if (o.attempt !== undefined) return run.state === 'finished' ? { kind: 'ended', run } : { kind: 'open', run };
      if (!o.follow && run.state !== 'finished') return { kind: 'open', run };
      if (run.state !== 'finished') await patience.again();
    }
    if (o.attempt === undefined) moveTo(position, run.attempt, o.output);
  }
}

/** One connection: `end` when the log's end was seen, `whole` when the server had no more, `broken` when it is to be tried again. */
async function readOnce(o: FollowOptions, patience: Patience, position: Position): Promise<'end' | 'whole' | 'broken'> {
  let isRead = false;
  try {
    for await (const records of o.client.log(o.run.id, { from: position.line, follow: o.follow, attempt: o.attempt, signal: o.signal })) {
      // The first says that the connection stands: a server does so before it has looked for the log, which it may not find.
      if (isRead) patience.progress();
      isRead = true;
      await o.output.data(printed(records, o));
      for (const { entry } of records) {
        if ('end' in entry) return 'end';
        note(entry, o.output);
        advance(position, entry);
      }
    }
    return 'whole';
  } catch (thrown) {
    await patience.retry(thrown);
    return 'broken';
  }
}

/** Lines that begin again belong to a later attempt. Which one is only guessed: a wrong guess repeats lines, and loses none. */
function advance(position: Position, entry: LogEntry): void {
  const next = lineAfter(entry);
  if (position.attempt === 0 || next <= position.line) position.attempt += 1;
  position.line = next;
}

function moveTo(position: Position, attempt: number, output: Output): void {
  if (attempt <= position.attempt) return;
  if (position.attempt > 0) {
    output.say(`attempt ${attempt} begins`);
    position.line = 1;
  }
  position.attempt = attempt;
}

/** The log's end is written after the result, so this waits a moment at most. */
async function finishedRun(o: FollowOptions, patience: Patience): Promise<Run> {
  for (;;) {
    const run = await currentRun(o, patience);
    if (run.state === 'finished') return run;
    await patience.again();
    o.signal.throwIfAborted();
  }
}

async function currentRun(o: FollowOptions, patience: Patience): Promise<Run> {
  for (;;) {
    try {
      return await o.client.run(o.run.id, o.signal);
    } catch (thrown) {
      await patience.retry(thrown);
    }
  }
}

function printed(records: LogRecord[], o: FollowOptions): string {
  if (o.output.json) return records.map(({ json }) => `${json}\n`).join('');
  return records.map(({ entry }) => ('line' in entry ? coloured(textOf(entry), entry.source, o.colour) : '')).join('');
}

/** On a terminal stderr is red and what builder itself says is dim; the newline stays outside, so no colour leaks. */
function coloured(text: string, source: string, colour: boolean): string {
  if (!colour || source === 'stdout') return text;
  const end = text.endsWith('\n') ? '\n' : '';
  return `\u001b[${source === 'stderr' ? 31 : 2}m${end === '' ? text : text.slice(0, -1)}\u001b[0m${end}`;
}

function note(entry: LogEntry, output: Output): void {
  if (output.json) return;
  if ('cut' in entry) output.say(`builder: lines ${entry.cut.from} to ${entry.cut.to} were cut from this log`);
  if ('gap' in entry) output.say(`builder: lines ${entry.gap.from} to ${entry.gap.to} are missing: ${entry.gap.reason}`);
}

function lineAfter(entry: LogEntry): number {
  if ('line' in entry) return entry.line + 1;
  if ('cut' in entry) return entry.cut.to + 1;
  return 'gap' in entry ? entry.gap.to + 1 : 1;
}
