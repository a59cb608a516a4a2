/** Stored templates. */
import { Template } from '../job/template.ts';
import { keys } from '../redis/keys.ts';
import type { Queues } from './queues.ts';

export async function getTemplate(queues: Queues, name: string): Promise<Template | null> {
  const text = await queues.redis.hget(keys.templates, name);
  return text === null ? null : Template.parse(JSON.parse(text));
}

export async function listTemplates(queues: Queues): Promise<Template[]> {
  const all = await queues.redis.hgetall(keys.templates);
  return Object.values(all)
    .map((text) => Template.parse(JSON.parse(text)))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

export async function putTemplate(queues: Queues, template: Template): Promise<void> {
  await queues.redis.hset(keys.templates, template.name, JSON.stringify(template));
}

/** False when there was none. */
export async function removeTemplate(queues: Queues, name: string): Promise<boolean> {
  return (await queues.redis.hdel(keys.templates, name)) === 1;
}
