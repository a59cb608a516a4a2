/** `run`: an ad-hoc run, followed to its end. */
import { SubmitRun } from '../../job/api.ts';
import { BuilderError } from '../../service/errors.ts';
import type { Client } from '../client.ts';
import { defineCommand } from '../command.ts';
import type { Io } from '../io.ts';
import { checkBody, JOB_OPTIONS, readJobOptions, sendInputs } from '../job-options.ts';
import { EXIT_ZERO, observeRun } from '../observing.ts';
import { TICK_OPTIONS } from '../schedule-options.ts';
import { readScript } from '../script.ts';
import { sayUnserved } from '../unserved.ts';

const run = defineCommand({
  name: 'run',
  describe: "Run a script once and follow its log; the exit code is the script's. Ctrl-C detaches, and the run goes on",
  positionals: { script: { describe: 'File, or - for standard input', optional: true, complete: 'files' } },
  options: {
    command: { kind: 'text', alias: 'c', describe: 'COMMAND to run instead of a script' },
    platform: { kind: 'text', describe: 'Platform to run on (default: the only one known)', complete: 'platforms' },
    detach: { kind: 'flag', describe: "Do not follow: print the run's id alone" },
    ...EXIT_ZERO,
    ...JOB_OPTIONS,
    overlap: { ...TICK_OPTIONS.overlap, hidden: true },
    misfire: { ...TICK_OPTIONS.misfire, hidden: true },
  },
  run: async (args, session) => {
    const client = session.client();
    if (args.overlap !== undefined || args.misfire !== undefined) {
      session.output.say('builder: --overlap and --misfire are about ticks; a run without a job has none');
    }
    const script = await scriptOf(args.script, args.command, session.io);
    const options = readJobOptions(args);
    const platform = args.platform ?? (await onlyPlatform(client));
    const body = checkBody(SubmitRun, { platform, script, ...options });
    body.inputs = await sendInputs(args.input, session, client);
    if (args.detach) {
      const submitted = await client.submit(body);
      await session.output.show(submitted, `${submitted.id}\n`);
      await sayUnserved(session, [submitted.platform]);
      return 0;
    }
    const begin = async () => {
      const submitted = await client.submit(body);
      session.output.say(`run ${submitted.id} on ${submitted.platform}`);
      await sayUnserved(session, [submitted.platform]);
      return submitted;
    };
    return observeRun(session, begin, { from: 1, follow: true, exitZero: args['exit-zero'] });
  },
});

export const commands = [run];

async function scriptOf(script: string | undefined, command: string | undefined, io: Io): Promise<string> {
  if ((script === undefined) === (command === undefined)) {
    throw new BuilderError('usage', `expected SCRIPT, - or -c COMMAND, got ${script === undefined ? 'none' : 'two'} of them`);
  }
  return command === undefined ? readScript(script ?? '-', io) : `${command}\n`;
}

async function onlyPlatform(client: Client): Promise<string> {
  const taking = (await client.platforms()).filter((one) => !one.dropped);
  // One that nobody works on, a name misspelt once, does not stand in the way of the one that is meant.
  const served = taking.filter((one) => one.workers > 0);
  const names = (served.length > 0 ? served : taking).map((one) => one.name).sort();
  if (names.length === 1 && names[0] !== undefined) return names[0];
  if (names.length === 0) throw new BuilderError('usage', 'expected --platform P, because no platform is known yet: start a worker');
  throw new BuilderError('usage', `expected --platform P, because there are several: ${names.join(', ')}`);
}
