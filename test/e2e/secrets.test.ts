import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { runOf, type System, startProgram, startSystemWith } from '../support/system.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const TOKEN = 's3cr"et \\ /välue+1?';
const KEY = '-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nab\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END KEY-----';

/** As they would be seen; of base64 and escapes what is there wherever the secret stands in a text. */
const FORMS = [TOKEN, ...KEY.split('\n').filter((line) => line.length > 2)].flatMap((text) => [
  text,
  encodeURIComponent(text),
  new URLSearchParams({ x: text }).toString().slice(2),
  JSON.stringify(text).slice(1, -1),
  ...['', 'x', 'xx'].map((before) => Buffer.from(`${before}${text}`).toString('base64').replace(/=+$/, '').slice(4, -1)),
]);

const shownIn = (text: string): string[] => FORMS.filter((form) => text.includes(form) || text.includes(JSON.stringify(form).slice(1, -1)));

const SCRIPT = `
printf '%s' "$TOKEN" | head -c 9; sleep 0.3; printf '%s\\n' "$TOKEN" | tail -c +10
printf '%s\\n' "$TOKEN" >&2
printf '%s' "$TOKEN" | base64
printf 'user:%s' "$TOKEN" | base64 -w0; echo
printf '%s\\n' "$KEY" | base64
printf '%s\\n' "$KEY"
echo $KEY
"$NODE" - <<'END'
const { TOKEN: token, KEY: key } = process.env;
const ascii = (json) => json.replace(/[^\\x00-\\x7f]/g, (one) => '\\\\u' + one.charCodeAt(0).toString(16).padStart(4, '0'));
console.log(ascii(JSON.stringify({ token, key })), JSON.stringify(token));
console.log(encodeURI(token), encodeURIComponent(token), encodeURIComponent(token).replaceAll('%20', '+'), encodeURIComponent(key));
END
printf '%s' "$TOKEN" | sha256sum
until [ -e go ]; do sleep 0.05; done
sh -c 'sleep 60; :' "$TOKEN" &
printf 'no newline %s' "$TOKEN"
`;

let temp: TempFolder;
let system: System;

beforeAll(async () => {
  temp = tempFolder();
  writeFileSync(`${temp.path}/key`, `${KEY}\n`);
  system = await startSystemWith({ env: { BUILDER_SECRET_TOKEN: TOKEN, BUILDER_SECRET_KEY_FILE: `${temp.path}/key` } });
});

afterAll(async () => {
  await system.stop();
  temp.remove();
});

const submit = async (script: string, ...flags: string[]): Promise<string> => {
  const run = await system.builder('run', '--detach', '--platform', 'test', ...flags, '-c', script);
  expect(run).toMatchObject({ code: 0, stderr: '' });
  return run.stdout.trim();
};
const finished = (id: string) =>
  until(async () => {
    const run = await runOf(system, id);
    return run.state === 'finished' ? run : null;
  }, `run ${id} to end`);

/** Every file below a folder, as one text. */
function contentOf(folder: string): string {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.name}\n${readFileSync(join(entry.parentPath, entry.name), 'utf8')}`)
    .join('\n');
}

const processFiles = (name: 'cmdline' | 'environ', pids: readonly (number | string)[]): string =>
  pids
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/${name}`, 'utf8');
      } catch {
        return '';
      }
    })
    .join('\n');

describe('a secret', () => {
  it('reaches the script that asks for it, and is seen nowhere else in any form', async () => {
    const id = await submit(SCRIPT, '--secret', 'TOKEN', '--secret', 'KEY', '--env', `NODE=${process.execPath}`);
    await until(async () => (await system.builder('observe', '--no-follow', id)).stdout.includes('  -\n'), 'the script to wait');
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    expect(shownIn(processFiles('cmdline', pids))).toEqual([]);
    expect(shownIn(processFiles('environ', [await system.pid('redis'), await system.pid('server')]))).toEqual([]);
    // The script's own folder is what it sees under every sandbox, wherever the checkout lies.
    const work = `${system.dir}/work`;
    const [worker = ''] = readdirSync(work);
    const folder = readdirSync(`${work}/${worker}/runs`).find((name) => name.startsWith(id)) ?? '';
    writeFileSync(`${work}/${worker}/runs/${folder}/home/go`, '');
    const run = await finished(id);
    expect(run).toMatchObject({ outcome: 'succeeded', artifactCount: 1 });
    const log = await system.builder('observe', id);
    const lines = log.stdout.split('\n');
    expect(lines.slice(0, 2)).toEqual(['***', '***']);
    expect(log.stdout).toContain(`${createHash('sha256').update(TOKEN).digest('hex')}  -\n`);
    expect(log.stdout).toContain('{"token":"***","key":"***"} "***"\n*** *** *** ***\n');
    expect(log.stdout).toContain('no newline ***\n');
    expect(log.stdout).toMatch(/builder: killed what was left: .*sh -c sleep 60; : \*\*\*/);
    const seen = [log.stdout, log.stderr, JSON.stringify(run), (await system.builder('show', id)).stdout];
    seen.push((await system.builder('observe', '--json', id)).stdout, system.up.stdout, system.up.stderr);
    for (const text of seen) expect(shownIn(text)).toEqual([]);
    expect(run.attempts[0]?.killed.map(({ command }) => command)).toContain('sh -c sleep 60; : ***');
    // Redis's append-only file, the store, the programs' logs: what has left the worker lies here.
    await until(() => contentOf(`${system.dir}/redis`).includes(id), 'Redis to write');
    expect(shownIn(contentOf(system.dir))).toEqual([]);
  });

  it('is not given to a script that does not ask for it', async () => {
    const own = [
      `${temp.path}/key`,
      `${system.folder.path}/config/builder/client.json`,
      `${system.dir}/client.json`,
      `${system.dir}/token`,
    ];
    const id = await submit(`env; cat ${own.map((path) => `'${path}'`).join(' ')} || true`);
    const run = await finished(id);
    const log = (await system.builder('observe', id)).stdout;
    expect([run.outcome, log.includes('TOKEN='), log.includes('BUILDER_SECRET')]).toEqual(['succeeded', false, false]);
    if (system.up.stdout.includes('sandbox bwrap')) expect([...shownIn(log), log.includes(system.token)]).toEqual([false]);
  });

  it('that the worker does not have: the run is refused, and says which', async () => {
    const run = await system.builder('run', '--platform', 'test', '--secret', 'TOKEN', '--secret', 'NOT_THERE', '-c', 'echo started');
    expect(run.code).toBe(125);
    expect([run.stdout.includes('started'), run.stderr.includes('unknown-secret: ')]).toEqual([false, true]);
    expect(run.stderr).toContain('NOT_THERE');
    const refused = await system.builder('run', '--platform', 'test', '--secret', 'BUILDER_SECRET_TOKEN', '-c', 'true');
    expect([refused.code, refused.stderr.includes('without BUILDER_SECRET_')]).toEqual([2, true]);
  });

  it('of a job comes with each of its runs', async () => {
    const script = `${system.folder.path}/script.sh`;
    writeFileSync(script, 'test -n "$TOKEN" && echo "got $TOKEN"\n');
    expect((await system.builder('schedule', 'with-secret', 'test', script, '--secret', 'TOKEN', '--period', 'never')).code).toBe(0);
    const run = await system.builder('execute', 'with-secret', '--follow');
    expect([run.code, run.stdout.includes('got ***\n')]).toEqual([0, true]);
  });
});

describe('a secret that cannot be masked', () => {
  it('is refused when the worker starts, by its name and not by its value', async () => {
    const env = { BUILDER_STORE: `file://${temp.path}/store`, BUILDER_SECRET_PIN: ' #@! ', BUILDER_SECRET_BUILDER_X: 'long enough' };
    const done = await startProgram(['worker', '--platform', 'test'], { env }).ended;
    expect(done.code).toBe(78);
    expect(done.stderr).toContain('BUILDER_SECRET_PIN: expected a secret of at least 4 characters');
    expect(done.stderr).toContain('BUILDER_SECRET_BUILDER_X: expected the name of a secret');
    expect([done.stderr.includes('#@!'), done.stderr.includes('long enough')]).toEqual([false, false]);
  });
});
