/** The command line of bwrap that gives one run all that a run of builder has, as a worker writes it where it has no rooms. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { bwrapArguments } from '../../workers/sandbox/bwrap.ts';
import { Missing } from '../figure.ts';
import { installed } from './programs.ts';
import { scratchFolder } from './scratch.ts';
import type { Command } from './spawning.ts';

/** bwrap with all its arguments up to the program that is PID 1 inside. Throws Missing where there is no bwrap. */
export function takeBwrapCommand(): Command {
  if (!installed('bwrap', '--version')) throw new Missing('bwrap is not installed: apt-get install bubblewrap');
  const { path } = scratchFolder();
  const [folder, tmp, store] = ['work/runs/run/home', 'work/runs/run/tmp', 'store'].map((name) => join(path, name)) as [
    string,
    string,
    string,
  ];
  for (const made of [folder, tmp, store]) mkdirSync(made, { recursive: true });
  return [
    'bwrap',
    ...bwrapArguments({ argv: ['true'], folder, tmp, env: {}, mark: '', network: 'on', enter: [], hide: [join(path, 'work'), store] }),
  ];
}
