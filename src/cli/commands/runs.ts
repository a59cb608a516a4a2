/** `runs`: a page of runs, newest first. */
import { limits } from '../../job/limits.ts';
import { checkName } from '../../job/names.ts';
import { OUTCOMES } from '../../job/outcome.ts';
import { defineCommand } from '../command.ts';
import { checkJobName, wholeNumber } from '../job-options.ts';
import { runTable } from '../listing.ts';

const runs = defineCommand({
  name: 'runs',
  describe: 'List runs, newest first',
  positionals: { name: { describe: 'Only runs of this job', optional: true, complete: 'jobs' } },
  options: {
    platform: { kind: 'text', describe: 'Only runs of this platform', complete: 'platforms' },
    outcome: { kind: 'text', describe: `Only runs that ended so: ${OUTCOMES.join(', ')}`, choices: OUTCOMES },
    limit: { kind: 'text', describe: `How many at most, up to ${limits.pageRunsMax} (default ${limits.pageRunsDefault})` },
    cursor: { kind: 'text', describe: "Where a page before ended: its 'next' under --json" },
  },
  run: async (args, { client, output }) => {
    const page = await client().runs({
      job: args.name === undefined ? undefined : checkJobName(args.name),
      platform: args.platform === undefined ? undefined : checkName('platform', args.platform),
      outcome: args.outcome,
      limit: wholeNumber('limit', args.limit, { least: 1, most: limits.pageRunsMax }),
      cursor: args.cursor,
    });
    await output.show(page, runTable(page.runs));
    if (output.json) return 0;
    if (page.runs.length === 0) output.say('no runs');
    if (page.next !== null) output.say(`more with --cursor ${page.next}`);
    return 0;
  },
});

export const commands = [runs];
