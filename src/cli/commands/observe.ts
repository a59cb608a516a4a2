/** `observe`: replays a run's log, then follows it to its end. */
import { defineCommand } from '../command.ts';
import { OBSERVE_OPTIONS, observeRun, readObserveOptions } from '../observing.ts';

const observe = defineCommand({
  name: 'observe',
  describe: "Replay a run's log and follow it to its end; the exit code is the script's. Ctrl-C detaches, and the run goes on",
  positionals: { run: { describe: 'Id of the run, or its first 8 characters', complete: 'runs' } },
  options: OBSERVE_OPTIONS,
  run: async (args, session) => {
    const options = readObserveOptions(args);
    return observeRun(session, () => session.client().run(args.run), options);
  },
});

export const commands = [observe];
