/** `cancel`: ends a run, or takes it from the queue. */
import { Cancel } from '../../job/api.ts';
import { defineCommand } from '../command.ts';
import { checkBody, given } from '../job-options.ts';

const cancel = defineCommand({
  name: 'cancel',
  describe: 'End a run, or take it from the queue',
  positionals: { run: { describe: 'Id of the run, or its first 8 characters', complete: 'runs' } },
  options: { reason: { kind: 'text', describe: 'TEXT that the run keeps' } },
  run: async (args, { client, output }) => {
    const { reason } = checkBody(Cancel, given('reason', args.reason));
    const run = await client().cancel(args.run, reason);
    const done = run.state === 'finished' ? `${run.outcome ?? 'cancelled'} ${run.id}` : `cancelling ${run.id}, which still runs`;
    await output.show(run, `${done}\n`);
    return 0;
  },
});

export const commands = [cancel];
