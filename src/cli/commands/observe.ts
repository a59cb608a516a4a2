/** `observe`: replays a run's log, then follows it to its end. */
import type { Run } from '../../job/run.ts';
import { BuilderError } from '../../service/errors.ts';
import { defineCommand } from '../command.ts';
import { ATTEMPT, attemptOf, given } from '../job-options.ts';
import { OBSERVE_OPTIONS, observeRun, readObserveOptions } from '../observing.ts';

const observe = defineCommand({
  name: 'observe',
  describe: "Replay a run's log and follow it to its end; the exit code is the script's. Ctrl-C detaches, and the run goes on",
  positionals: { run: { describe: 'Id of the run, or its first 8 characters', complete: 'runs' } },
  options: { ...OBSERVE_OPTIONS, ...ATTEMPT },
  run: async (args, session) => {
    const attempt = attemptOf(args);
    const begin = async (): Promise<Run> => {
      const run = await session.client().run(args.run);
      if (attempt === undefined || attempt <= run.attempts.length) return run;
      throw new BuilderError('not-found', `expected one of ${run.attempts.length} attempts of run ${run.id}, got ${attempt}`);
    };
    return observeRun(session, begin, { ...readObserveOptions(args), ...given('attempt', attempt) });
  },
});

export const commands = [observe];
