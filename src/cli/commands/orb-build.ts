/** `orb-build`: a job that builds an opam package reproducibly, from the template of the same name. */
import { PutJob } from '../../job/api.ts';
import { BuilderError } from '../../service/errors.ts';
import type { Client } from '../client.ts';
import { defineCommand } from '../command.ts';
import { checkBody, checkJobName, given } from '../job-options.ts';
import { describeDue, PERIOD_OPTION } from '../schedule-options.ts';

const TEMPLATE = 'orb-build';

const orbBuild = defineCommand({
  name: 'orb-build',
  describe: `Add a job from the template ${TEMPLATE}, with the package as its parameter PACKAGE`,
  positionals: {
    name: { describe: 'Name of the job' },
    package: { describe: 'Opam package, such as dns-primary-git.1.0' },
  },
  options: PERIOD_OPTION,
  run: async (args, session) => {
    const client = session.client();
    const name = checkJobName(args.name);
    const opamPackage = checkPackage(args.package);
    const body = checkBody(PutJob, { template: TEMPLATE, params: { PACKAGE: opamPackage }, ...given('period', args.period) });
    await requireTemplate(client);
    const job = await client.putJob(name, body, true);
    await session.output.show(job, describeDue('scheduled', job));
    return 0;
  },
});

export const commands = [orbBuild];

/** It becomes a word of a shell script: only what a package's name and version may hold (opam's manual, «Package names and versions»). */
function checkPackage(text: string): string {
  if (/^[A-Za-z0-9_+][A-Za-z0-9_+.~-]*$/.test(text)) return text;
  throw new BuilderError('invalid-value', `expected an opam package such as dns-primary-git.1.0, got ${JSON.stringify(text)}`);
}

async function requireTemplate(client: Client): Promise<void> {
  try {
    await client.template(TEMPLATE);
  } catch (cause) {
    if (!(cause instanceof BuilderError) || cause.code !== 'not-found') throw cause;
    const hint = `set it with: builder template set ${TEMPLATE} PLATFORM=FILE`;
    throw new BuilderError('not-found', `expected the template ${TEMPLATE}, got none; ${hint}`, { cause });
  }
}
