/** A job: a named definition of what to run, where and when. */
import { z } from 'zod';
import { Name, RunOptions, ScriptRef } from './run.ts';
import { Schedule } from './schedule.ts';
import { TickPolicies } from './tick-rules.ts';

/** A job's script is its own on one platform, or made from a template on every platform that the template knows. */
export const JobSource = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('script'), platform: Name, script: ScriptRef }),
  z.object({ kind: z.literal('template'), template: Name, params: z.record(z.string(), z.string()) }),
]);
export type JobSource = z.infer<typeof JobSource>;

/** `id` is made at the first scheduling and names the job's ticks for ever; `extraTickMs` is the one tick of `reschedule` on a cron. */
export const JobDefinition = RunOptions.extend({
  ...TickPolicies.shape,
  id: z.uuid(),
  name: Name,
  source: JobSource,
  schedule: Schedule,
  extraTickMs: z.int().nullable(),
  paused: z.boolean(),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
});
export type JobDefinition = z.infer<typeof JobDefinition>;
