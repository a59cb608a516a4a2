/** `template list`, `set`, `show`, `remove`: scripts per platform from which jobs are made. */
import { PutTemplate } from '../../job/api.ts';
import { checkName } from '../../job/names.ts';
import { parametersOf, type Template } from '../../job/template.ts';
import { BuilderError } from '../../service/errors.ts';
import { defineCommand } from '../command.ts';
import type { Io } from '../io.ts';
import { checkBody } from '../job-options.ts';
import { readScript } from '../script.ts';
import { table } from '../table.ts';

const NAME = { describe: 'Name of the template', complete: 'templates' } as const;

const list = defineCommand({
  name: 'list',
  describe: 'List the templates with their platforms and parameters',
  positionals: {},
  options: {},
  run: async (_, { client, output }) => {
    const templates = await client().templates();
    const rows = templates.map((one) => [one.name, Object.keys(one.scripts).sort().join(' '), parametersIn(one).join(' ')]);
    await output.show({ templates }, table([{ title: 'TEMPLATE' }, { title: 'PLATFORMS' }, { title: 'PARAMETERS' }], rows));
    if (templates.length === 0) output.say('no templates');
    return 0;
  },
});

const set = defineCommand({
  name: 'set',
  describe: 'Make or change a template: one script for each platform; platforms that are not named are no longer part of it',
  positionals: {
    name: NAME,
    scripts: { describe: 'PLATFORM=FILE: the script of a platform, with %%NAME%% for its parameters (- is standard input)', many: true },
  },
  options: {},
  run: async (args, { client, io, output }) => {
    const name = checkName('template', args.name);
    const { scripts } = checkBody(PutTemplate, { scripts: await readScripts(args.scripts, io) });
    await client().putTemplate(name, scripts);
    await output.show({ name, scripts }, `set template ${name} for ${Object.keys(scripts).join(', ')}\n`);
    return 0;
  },
});

const show = defineCommand({
  name: 'show',
  describe: 'Print the scripts of a template',
  positionals: { name: NAME },
  options: { platform: { kind: 'text', describe: 'Only the script of this platform, as it is', complete: 'platforms' } },
  run: async (args, { client, output }) => {
    const template = await client().template(checkName('template', args.name));
    await output.show(template, textOf(template, args.platform));
    return 0;
  },
});

const remove = defineCommand({
  name: 'remove',
  describe: 'Remove a template',
  positionals: { name: NAME },
  options: {},
  run: async (args, { client, output }) => {
    const name = checkName('template', args.name);
    await client().removeTemplate(name);
    await output.show({ template: name, removed: true }, `removed template ${name}\n`);
    return 0;
  },
});

export const commands = [list, set, show, remove];

async function readScripts(specs: string[], io: Io): Promise<Record<string, string>> {
  const files = new Map<string, string>();
  for (const spec of specs) {
    const at = spec.indexOf('=');
    const [platform, file] = [spec.slice(0, Math.max(0, at)), spec.slice(at + 1)];
    if (at <= 0 || file === '') throw new BuilderError('usage', `expected PLATFORM=FILE, got ${JSON.stringify(spec)}`);
    if (files.has(checkName('platform', platform))) throw new BuilderError('usage', `expected one script for ${platform}, got two`);
    files.set(platform, file);
  }
  if (files.size === 0) throw new BuilderError('usage', 'expected PLATFORM=FILE, got nothing');
  if ([...files.values()].filter((file) => file === '-').length > 1) throw new BuilderError('usage', 'expected - once, got it twice');
  const scripts: Record<string, string> = {};
  for (const [platform, file] of files) scripts[platform] = await readScript(file, io);
  return scripts;
}

function textOf({ name, scripts }: Template, platform: string | undefined): string {
  if (platform !== undefined) {
    const script = Object.hasOwn(scripts, platform) ? scripts[platform] : undefined;
    if (script !== undefined) return script;
    throw new BuilderError('not-found', `expected template ${name} to have a script for ${platform}, got none`);
  }
  const ended = (script: string): string => (script.endsWith('\n') ? script : `${script}\n`);
  return Object.entries(scripts)
    .map(([one, script]) => `==> ${one} <==\n${ended(script)}`)
    .join('\n');
}

function parametersIn({ scripts }: Template): string[] {
  return [...new Set(Object.values(scripts).flatMap(parametersOf))].filter((name) => name !== 'PLATFORM');
}
