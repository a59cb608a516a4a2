/**
 * What the buttons of Bull Board do here: each goes through builder's own functions, and what could break an invariant is refused
 * with the command to use instead. No request that changes anything reaches Bull Board's own handlers.
 */
import { randomUUID } from 'node:crypto';
import { SubmitRun } from '../../job/api.ts';
import { checkName } from '../../job/names.ts';
import { RunSpec } from '../../job/run.ts';
import { retryRun } from '../../queue/cancel.ts';
import * as operations from '../../queue/operations.ts';
import { knownPlatforms } from '../../queue/platform-sets.ts';
import { submitRun } from '../../queue/submit.ts';
import { getRun } from '../../queue/view.ts';
import { TICK_QUEUE } from '../../redis/keys.ts';
import { BuilderError } from '../../service/errors.ts';
import { describeIssues } from '../../service/zod-message.ts';
import { checkInputs } from '../known-inputs.ts';
import type { ServerContext } from '../server-context.ts';

export interface Press {
  method: string;
  /** Below `/board/api`. */
  path: string;
  body: unknown;
}

interface Place {
  platform: string;
  id: string;
  state: string;
  body: unknown;
}

type Action = (context: ServerContext, place: Place) => Promise<unknown>;

interface Button {
  method: string;
  path: RegExp;
  act: Action;
}

const QUEUE = '/queues/(?<queue>[^/]+)';

const BUTTONS: Button[] = [
  button('PUT', '/queues/pause', ({ queues }) => operations.pauseAll(queues)),
  button('PUT', '/queues/resume', ({ queues }) => operations.resumeAll(queues)),
  button('PUT', `${QUEUE}/pause`, ({ queues }, { platform }) => operations.pausePlatform(queues, platform)),
  button('PUT', `${QUEUE}/resume`, ({ queues }, { platform }) => operations.resumePlatform(queues, platform)),
  button('PUT', `${QUEUE}/promote`, ({ queues }, { platform }) => operations.promoteAll(queues, platform)),
  button('PUT', `${QUEUE}/retry/(?<state>[^/]+)`, ({ queues }, { platform, state }) =>
    operations.retryState(queues, platform, endedState(state)),
  ),
  button('PUT', `${QUEUE}/clean/(?<state>[^/]+)`, ({ queues }, { platform, state }) =>
    operations.cleanState(queues, platform, cleanableState(state)),
  ),
  button('POST', `${QUEUE}/add`, addRun),
  button('PUT', `${QUEUE}/(?<id>[^/]+)/retry`, ({ queues }, { id }) => retryRun(queues, id)),
  button('PUT', `${QUEUE}/(?<id>[^/]+)/clean`, ({ queues }, { platform, id }) => operations.removeJobOfRun(queues, platform, id)),
  button('PUT', `${QUEUE}/(?<id>[^/]+)/promote`, ({ queues }, { platform, id }) => operations.promoteJob(queues, platform, id)),
];

/** What to do instead of a button that builder refuses. */
const INSTEAD: [RegExp, string][] = [
  [/\/obliterate$|\/empty$/, 'drop-platform cancels what waits: builder drop-platform PLATFORM'],
  [/\/job-schedulers\//, 'schedules belong to jobs: builder schedule --replace, reschedule, unschedule or execute'],
  [/\/update-data$|\/delay$|\/priority$/, 'a run is as it was accepted: builder cancel RUN, then builder run or execute'],
  [/\/concurrency$|\/rate-limit/, 'workers say how much they take: builder worker --concurrency N'],
];

/** Throws BuilderError for what is refused: `conflict`, `not-found`, `invalid-value`. */
export async function press(context: ServerContext, { method, path, body }: Press): Promise<unknown> {
  for (const one of BUTTONS) {
    const groups = one.method === method ? (one.path.exec(path)?.groups ?? (one.path.test(path) ? {} : null)) : null;
    if (groups === null || groups === undefined) continue;
    const platform = groups.queue === undefined ? '' : await platformOf(context, decodeURIComponent(groups.queue));
    return (await one.act(context, { platform, id: decodeURIComponent(groups.id ?? ''), state: groups.state ?? '', body })) ?? {};
  }
  const instead = INSTEAD.find(([pattern]) => pattern.test(path))?.[1] ?? 'use the builder command line';
  throw new BuilderError('conflict', `this is not done from the board; ${instead}`);
}

function button(method: string, path: string, act: Action): Button {
  return { method, path: new RegExp(`^${path}$`), act };
}

async function platformOf(context: ServerContext, queue: string): Promise<string> {
  if (queue === TICK_QUEUE)
    throw new BuilderError('conflict', 'ticks are read-only here; schedules belong to jobs: builder schedule, reschedule, unschedule');
  const platform = checkName('platform', queue.replace(/^run-/, ''));
  if (!(await knownPlatforms(context.queues)).includes(platform)) throw new BuilderError('not-found', `no such queue: ${queue}`);
  return platform;
}

/** The form's data is a run as `POST /api/v1/runs` takes it, without the platform. */
async function addRun(context: ServerContext, { platform, body }: Place): Promise<unknown> {
  const data = typeof body === 'object' && body !== null && 'data' in body ? body.data : undefined;
  const parsed = SubmitRun.safeParse({ ...(typeof data === 'object' && data !== null ? data : {}), platform });
  if (!parsed.success) {
    throw new BuilderError(
      'invalid-value',
      `expected the data of a run such as {"script": "true"}: ${describeIssues(parsed.error.issues)}`,
    );
  }
  const { script, ...options } = parsed.data;
  await checkInputs(context, options.inputs);
  const spec = RunSpec.parse({
    ...options,
    id: randomUUID(),
    job: null,
    script: await context.storeScript(script),
    trigger: 'board',
    createdAt: new Date().toISOString(),
  });
  await submitRun(context.queues, spec);
  const run = await getRun(context.queues, spec.id);
  return { job: { id: run.id, name: 'ad-hoc', data: { run: run.id }, timestamp: Date.parse(run.createdAt) }, status: 'prioritized' };
}

function endedState(state: string): 'completed' | 'failed' {
  if (state === 'completed' || state === 'failed') return state;
  throw new BuilderError('conflict', `expected runs that have ended (completed, failed), got ${state}`);
}

function cleanableState(state: string): 'wait' | 'prioritized' | 'delayed' | 'completed' | 'failed' {
  if (state === 'waiting' || state === 'wait') return 'wait';
  if (state === 'prioritized' || state === 'delayed' || state === 'completed' || state === 'failed') return state;
  throw new BuilderError('conflict', `expected a state that can be cleaned, got ${state}; a running run ends by: builder cancel RUN`);
}
