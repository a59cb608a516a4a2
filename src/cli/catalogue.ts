/** Every command with its line in the help; a command's module is imported only when it runs. */
import type { Entry } from './command.ts';

export const CATALOGUE: Record<string, Entry> = {
  up: { group: 'Programs', describe: 'Redis, storage, server and one worker on this machine' },
  server: { group: 'Programs', describe: 'The server: HTTP, schedules, board' },
  worker: { group: 'Programs', describe: 'A worker: executes the runs of its platforms' },

  schedule: { group: 'Jobs', describe: 'Add a job, or change it (--replace)', load: () => import('./commands/schedule.ts') },
  unschedule: { group: 'Jobs', describe: 'Remove a job', load: () => import('./commands/unschedule.ts') },
  reschedule: { group: 'Jobs', describe: 'Say when a job is due next', load: () => import('./commands/reschedule.ts') },
  'orb-build': { group: 'Jobs', describe: 'Add a job that builds an opam package', load: () => import('./commands/orb-build.ts') },
  template: { group: 'Jobs', describe: 'Templates: list, set, show, remove', load: () => import('./commands/template.ts'), nested: true },

  run: { group: 'Runs', describe: 'Run a script once and follow its log', load: () => import('./commands/run.ts') },
  execute: { group: 'Runs', describe: 'Run a job now', load: () => import('./commands/execute.ts') },
  info: { group: 'Runs', describe: 'Schedule, queues, running, workers', load: () => import('./commands/info.ts') },
  runs: { group: 'Runs', describe: 'List runs, newest first', load: () => import('./commands/runs.ts') },
  show: { group: 'Runs', describe: 'All that is known of a run', load: () => import('./commands/show.ts') },
  why: { group: 'Runs', describe: 'Why a run waits, or a job does not run', load: () => import('./commands/why.ts') },
  observe: { group: 'Runs', describe: 'Replay a log and follow it to its end', load: () => import('./commands/observe.ts') },
  'observe-latest': { group: 'Runs', describe: 'Observe the newest run', load: () => import('./commands/observe-latest.ts') },
  cancel: { group: 'Runs', describe: 'End a run, or take it from the queue', load: () => import('./commands/cancel.ts') },
  rerun: { group: 'Runs', describe: 'Submit the same again as a new run', load: () => import('./commands/rerun.ts') },
  artifacts: { group: 'Runs', describe: 'List the files of a run', load: () => import('./commands/artifacts.ts') },
  download: { group: 'Runs', describe: 'Fetch files of a run, digests checked', load: () => import('./commands/download.ts') },

  'drop-platform': {
    group: 'Administration',
    describe: 'Take no more runs of a platform',
    load: () => import('./commands/drop-platform.ts'),
  },
  'undrop-platform': {
    group: 'Administration',
    describe: 'Take runs of a platform again',
    load: () => import('./commands/undrop-platform.ts'),
  },
  workers: { group: 'Administration', describe: 'List the workers', load: () => import('./commands/workers.ts') },
  token: { group: 'Administration', describe: 'Tokens: create, list, revoke', load: () => import('./commands/token.ts'), nested: true },
  completion: {
    group: 'Administration',
    describe: 'Script that completes commands in bash or zsh',
    load: () => import('./commands/completion.ts'),
  },
};

/** What `builder --help` says. */
export function helpText(): string {
  const widest = Math.max(...Object.keys(CATALOGUE).map((name) => name.length));
  const groups = [...new Set(Object.values(CATALOGUE).map((entry) => entry.group))].map((group) => {
    const lines = Object.entries(CATALOGUE).filter(([, entry]) => entry.group === group);
    return `${group}\n${lines.map(([name, entry]) => `  ${name.padEnd(widest)}  ${entry.describe}\n`).join('')}`;
  });
  return `builder COMMAND [options]\n\n${groups.join('\n')}
Every command has --help, --json, --server URL and --token T. Server and token come else from BUILDER_SERVER and
BUILDER_TOKEN, from .builder/client.json in this folder or one above it, or from builder/client.json in the user's
configuration folder. A run is named by its id or the first 8 characters of it.
`;
}
