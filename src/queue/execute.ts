/** The runs that a job makes: one per platform of its script or template, from its newest definition. */
import type { JobDefinition } from '../job/definition.ts';
import { InvalidValue } from '../job/invalid-value.ts';
import { RunOptions, type RunSpec, type ScriptRef, type Trigger } from '../job/run.ts';
import { renderTemplate, type Template } from '../job/template.ts';
import { BuilderError } from '../service/errors.ts';
import type { Queues } from './queues.ts';
import { getTemplate } from './templates.ts';

/** Stores a rendered script and answers with its digest; given by whoever holds the store. */
export type StoreScript = (text: string) => Promise<ScriptRef>;

export interface RunsOfJob {
  definition: JobDefinition;
  trigger: Trigger;
  /** This platform alone; every platform of the job when undefined. */
  platform?: string | undefined;
  idOf: (platform: string) => string;
}

/** The platforms that a job has a script for; none for one whose template was removed, which is shown all the same. */
export async function platformsLeft(queues: Queues, definition: JobDefinition): Promise<string[]> {
  try {
    return await platformsOfJob(queues, definition);
  } catch (cause) {
    if (cause instanceof BuilderError && cause.code === 'not-found') return [];
    throw cause;
  }
}

/** Throws `not-found` when the template is gone. */
async function platformsOfJob(queues: Queues, definition: JobDefinition): Promise<string[]> {
  const { source } = definition;
  if (source.kind === 'script') return [source.platform];
  return Object.keys((await templateOf(queues, source.template)).scripts).sort();
}

/** Throws InvalidValue for a platform that the job does not know, a missing template or a missing parameter. */
export async function specsOfJob(queues: Queues, storeScript: StoreScript, o: RunsOfJob): Promise<RunSpec[]> {
  const { definition } = o;
  const platforms = await platformsOfJob(queues, definition);
  if (o.platform !== undefined && !platforms.includes(o.platform)) {
    throw new InvalidValue(`expected a platform of ${definition.name} (${platforms.join(', ')}), got ${o.platform}`);
  }
  const createdAt = new Date().toISOString();
  const options = RunOptions.parse(definition);
  const specs: RunSpec[] = [];
  for (const platform of o.platform === undefined ? platforms : [o.platform]) {
    const script = await scriptFor(queues, storeScript, definition, platform);
    specs.push({ ...options, id: o.idOf(platform), job: definition.name, platform, script, trigger: o.trigger, createdAt });
  }
  return specs;
}

async function scriptFor(queues: Queues, storeScript: StoreScript, definition: JobDefinition, platform: string): Promise<ScriptRef> {
  const { source } = definition;
  if (source.kind === 'script') return source.script;
  const template = await templateOf(queues, source.template);
  return storeScript(renderTemplate(template.scripts[platform] ?? '', platform, source.params));
}

async function templateOf(queues: Queues, name: string): Promise<Template> {
  const template = await getTemplate(queues, name);
  if (template === null) throw new BuilderError('not-found', `no such template: ${name} (builder template set ${name} PLATFORM=FILE)`);
  return template;
}
