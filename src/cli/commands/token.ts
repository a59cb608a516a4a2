/** `token create`, `list`, `revoke`: who may speak to the server. */
import { SCOPES } from '../../job/api.ts';
import { checkName } from '../../job/names.ts';
import { defineCommand } from '../command.ts';
import { shortMoment, table } from '../table.ts';

const create = defineCommand({
  name: 'create',
  describe: 'Make a token and print it; it cannot be shown again',
  positionals: { name: { describe: 'Name to know it by' } },
  options: { scope: { kind: 'text', describe: 'read, submit or admin (default submit)', choices: SCOPES } },
  run: async (args, { client, output }) => {
    const created = await client().createToken(checkName('token', args.name), args.scope ?? 'submit');
    await output.show(created, `${created.token}\n`);
    if (!output.json) output.say(`token ${created.name} of scope ${created.scope}; revoke it: builder token revoke ${created.id}`);
    return 0;
  },
});

const list = defineCommand({
  name: 'list',
  describe: 'List the tokens, without their secrets',
  positionals: {},
  options: {},
  run: async (_, { client, output }) => {
    const tokens = await client().tokens();
    const rows = tokens.map((one) => [one.id, one.name, one.scope, shortMoment(one.createdAt)]);
    await output.show({ tokens }, table([{ title: 'TOKEN' }, { title: 'NAME' }, { title: 'SCOPE' }, { title: 'CREATED' }], rows));
    if (tokens.length === 0 && !output.json) output.say('no tokens');
    return 0;
  },
});

const revoke = defineCommand({
  name: 'revoke',
  describe: 'Make a token worthless at once',
  positionals: { id: { describe: 'Its id, as token list shows it', complete: 'tokens' } },
  options: {},
  run: async (args, { client, output }) => {
    await client().revokeToken(args.id);
    await output.show({ token: args.id, revoked: true }, `revoked ${args.id}\n`);
    return 0;
  },
});

export const commands = [create, list, revoke];
