/** `why`: why a run waits, or a job does not run. */
import type { JobWhy } from '../../job/job-why.ts';
import { limits } from '../../job/limits.ts';
import { NAME_PATTERN, RUN_ID_PATTERN } from '../../job/names.ts';
import type { RunWhy } from '../../job/run-why.ts';
import { BuilderError } from '../../service/errors.ts';
import type { Client } from '../client.ts';
import { defineCommand } from '../command.ts';
import { visible } from '../output.ts';
import { fields, shortMoment } from '../table.ts';

const why = defineCommand({
  name: 'why',
  describe: 'Say why a run waits or how it ended, or why a job has not run and when it will',
  positionals: { name: { describe: 'Id of a run, or its first 8 characters; or name of a job', complete: 'runs-and-jobs' } },
  options: {},
  run: async ({ name }, { client, output }) => {
    const answer = await ask(client(), name);
    await output.show(answer, `${visible(answer.message)}\n${'run' in answer ? factsOfRun(answer) : factsOfJob(answer)}`);
    return 0;
  },
});

export const commands = [why];

/** A job may be called as the id of a run begins: its whole name is what counts then. */
async function ask(client: Client, name: string): Promise<RunWhy | JobWhy> {
  const isId = RUN_ID_PATTERN.test(name);
  const mayBeId = new RegExp(`^[0-9a-f-]{${limits.prefixCharsMin},36}$`, 'i').test(name);
  const ofJob = isId || !NAME_PATTERN.test(name) ? null : await orNull(client.jobWhy(name));
  const ofRun = ofJob !== null || !mayBeId ? null : await orNull(client.runWhy(name));
  const found = ofJob ?? ofRun;
  if (found !== null) return found;
  throw new BuilderError('not-found', `no such run or job: ${visible(name)}`);
}

async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (cause) {
    if (cause instanceof BuilderError && cause.code === 'not-found') return null;
    throw cause;
  }
}

function factsOfRun(one: RunWhy): string {
  return fields([
    ['code', one.code],
    ['run', one.run],
    ['job', one.job],
    ['platform', one.platform],
    ['state', one.state],
    ['worker', one.worker],
    ['since', one.since && shortMoment(one.since)],
    ['until', one.until && shortMoment(one.until)],
    ['position', one.position],
    ['ahead', one.ahead.length === 0 ? null : one.ahead.map(({ run, job }) => `${run}${job === null ? '' : ` (${job})`}`).join(' ')],
    ['slots', one.state === 'finished' ? null : `${one.busy} of ${one.slots} busy`],
  ]);
}

function factsOfJob(one: JobWhy): string {
  const { ticks, lastTick } = one;
  const count = (counted: number, last: string | null): string | null => (counted === 0 ? null : `${counted}, last ${shortMoment(last)}`);
  return fields([
    ['code', one.code],
    ['job', one.job],
    ['platforms', one.platforms.join(' ')],
    ['next', one.next && shortMoment(one.next)],
    ['open runs', one.openRuns],
    ['last tick', lastTick && `${shortMoment(lastTick.at)} ${lastTick.code}`],
    ['missed', count(ticks.missed, ticks.lastMissedAt)],
    ['skipped', count(ticks.skipped, ticks.lastSkippedAt)],
    ['held back', count(ticks.fused, ticks.lastFusedAt)],
  ]);
}
