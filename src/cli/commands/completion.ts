/** `completion`: a script that completes commands, flags and names in a shell. */
import { BuilderError } from '../../service/errors.ts';
import type { Client } from '../client.ts';
import { defineCommand, type Session, type Words } from '../command.ts';
import { type CompletedCommand, completionScript, SHELLS } from '../completion-script.ts';

const WORDS = ['runs', 'jobs', 'runs-and-jobs', 'platforms', 'templates', 'tokens'] as const satisfies Words[];

const completion = defineCommand({
  name: 'completion',
  describe: 'Print a script that completes commands: eval "$(builder completion bash)"',
  positionals: { shell: { describe: 'bash or zsh', optional: true, choices: SHELLS } },
  options: { words: { kind: 'text', describe: 'Names that the server knows, for the script itself', hidden: true, choices: WORDS } },
  run: async ({ shell, words }, { client, output, catalogue }) => {
    if (words !== undefined) {
      const names = await namesOf(client(), words);
      await output.show({ words: names }, names.map((name) => `${name}\n`).join(''));
      return 0;
    }
    if (shell === undefined) throw new BuilderError('usage', `expected a shell: ${SHELLS.join(' or ')}`);
    const script = completionScript(shell, await allCommands(catalogue));
    await output.show({ shell, script }, script);
    return 0;
  },
});

export const commands = [completion];

async function namesOf(client: Client, words: (typeof WORDS)[number]): Promise<string[]> {
  switch (words) {
    case 'runs':
      return (await client.runs({})).runs.map((one) => one.id);
    case 'jobs':
      return (await client.jobs()).map((one) => one.name);
    case 'runs-and-jobs':
      return [...(await namesOf(client, 'jobs')), ...(await namesOf(client, 'runs'))];
    case 'platforms':
      return (await client.platforms()).map((one) => one.name);
    case 'templates':
      return (await client.templates()).map((one) => one.name);
    case 'tokens':
      return (await client.tokens()).map((one) => one.id);
  }
}

async function allCommands(catalogue: Session['catalogue']): Promise<CompletedCommand[]> {
  const entries = Object.entries(catalogue).map(async ([name, { load, nested }]): Promise<CompletedCommand[]> => {
    if (load === undefined) return [{ words: [name], positionals: {}, options: {} }];
    const module = await load();
    return module.commands.map((one) => ({
      words: nested ? [name, one.name] : [name],
      positionals: one.positionals,
      options: one.options,
    }));
  });
  return (await Promise.all(entries)).flat();
}
