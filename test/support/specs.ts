/** Run specs and jobs for tests. */
import { randomUUID } from 'node:crypto';
import { JobDefinition } from '../../src/job/definition.ts';
import { RunSpec } from '../../src/job/run.ts';
import type { Schedule } from '../../src/job/schedule.ts';

const NO_SCRIPT = { sha256: '0'.repeat(64), bytes: 0 };

export function specOf(given: Partial<RunSpec> = {}): RunSpec {
  const made = { id: randomUUID(), job: null, platform: 'test', script: NO_SCRIPT, trigger: 'run', createdAt: new Date().toISOString() };
  return RunSpec.parse({ ...made, ...given });
}

export function definitionOf(name: string, schedule: Schedule, given: Partial<JobDefinition> = {}): JobDefinition {
  const now = new Date().toISOString();
  const source = { kind: 'script', platform: 'test', script: NO_SCRIPT };
  return JobDefinition.parse({
    id: randomUUID(),
    name,
    source,
    schedule,
    extraTickMs: null,
    paused: false,
    createdAt: now,
    updatedAt: now,
    ...given,
  });
}
