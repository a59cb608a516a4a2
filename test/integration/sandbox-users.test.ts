/** The sandbox `bwrap` of a worker that is not root's: its scripts have a namespace of users. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from '@jest/globals';
import { tempFolder } from '../support/temp.ts';

const NOBODY = 65_534;
const dist = fileURLToPath(new URL('../../dist/', import.meta.url));
const temp = tempFolder();
afterAll(() => temp.remove());

/** Executes one script after the other, each `COUNT` at a time, and prints what they said. */
const PROGRAM = `
const { mkdirSync, writeFileSync } = require('node:fs');
const [runs, count, ...scripts] = process.argv.slice(1);
// Slots keep nobody alive.
setInterval(() => undefined, 1_000);
(async () => {
  const { chooseSandbox } = await import('${pathToFileURL(`${dist}workers/sandbox/choose.js`)}');
  const { createExecutor } = await import('${pathToFileURL(`${dist}workers/executor.js`)}');
  const execute = createExecutor(await chooseSandbox('bwrap', runs));
  const told = [];
  for (const [number, text] of scripts.entries()) {
    told.push(await Promise.all(Array.from({ length: Number(count) }, async (_, index) => {
      const root = runs + '/' + number + '-' + index;
      for (const name of ['home', 'tmp']) mkdirSync(root + '/' + name, { recursive: true });
      const script = root + '/home/script';
      writeFileSync(script, text, { mode: 0o755 });
      let said = '';
      const executed = await execute({
        script, folder: root + '/home', tmp: root + '/tmp', env: { PATH: '/usr/bin:/bin' }, mark: 'BUILDER_CLAIM=x', timeoutMs: 20000, graceMs: 1000,
        cancel: new AbortController().signal, onOutput: (source, chunk) => { said += chunk; },
      });
      return [executed.exitCode, said];
    })));
  }
  console.log(JSON.stringify(told));
  process.exit(0);
})().catch((cause) => { console.error(cause.message); process.exit(1); });
`;

/** What `count` runs at a time of each script said, as another user. */
function executed(count: number, ...scripts: string[]): [number, string][][] {
  const runs = `${temp.path}/runs`;
  mkdirSync(runs, { recursive: true });
  for (const path of [temp.path, runs]) chmodSync(path, 0o777);
  const o = { uid: NOBODY, gid: NOBODY, env: { PATH: '/usr/bin:/bin' }, encoding: 'utf8', timeout: 50_000 } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', PROGRAM, runs, String(count), ...scripts], o);
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

function whyNot(): string | null {
  if (process.getuid?.() !== 0) return 'only root can become another user';
  try {
    executed(1, 'true');
    return null;
  } catch (cause) {
    return (cause as Error).message.trim();
  }
}

const missing = whyNot();
if (missing !== null) process.stderr.write(`skipped: bwrap of a worker that is not root's: ${missing}\n`);

(missing === null ? describe : describe.skip)("bwrap of a worker that is not root's", () => {
  it('gives a script no capability, and no way to a namespace in which it could undo what hides the others', () => {
    const undo =
      'for at in $(cd ../..; pwd) /proc /tmp /; do umount -l $at; done; ls ../.. | wc -l; [ $(ls -d /proc/[0-9]* | wc -l) -lt 10 ] && echo few';
    const lines = [
      'grep ^Cap /proc/self/status | cut -f2 | sort -u',
      'cut -c1-10 /proc/self/uid_map | tr -d " "',
      `unshare --user --map-root-user --mount sh -c '${undo}'`,
      'touch ../../x /etc/x || echo refused',
    ];
    const [[told] = []] = executed(1, `#!/bin/sh\nexec 2>/dev/null\n${lines.join('\n')}\n`);
    expect(told?.[1].split('\n')).toEqual(['0'.repeat(16), String(NOBODY), '1', 'few', 'refused', '']);
  });

  it('makes the namespaces of its runs itself', () => {
    expect(executed(1, 'tr "\\0" " " < /proc/1/cmdline')).toEqual([[[0, expect.stringMatching(/^builder-init-of BUILDER_CLAIM=x /)]]]);
  });

  it('shows no run a key that another one has left to its user', () => {
    // add_key(2) and keyctl(2), KEYCTL_SEARCH, of the keyring of the user.
    const calls = { x64: [248, 250], arm64: [217, 219] }[process.arch as string];
    if (calls === undefined) return void process.stderr.write('skipped: keys of a user: their calls are not known for this machine\n');
    const perl = (call: string): string => `perl -e '($t, $n, $v) = ("user", "left", "x"); print ${call} < 0 ? "none $!" : "one"'`;
    const add = perl(`syscall(${calls[0]}, $t, $n, $v, 1, -4)`);
    const find = perl(`syscall(${calls[1]}, 10, -4, $t, $n, 0)`);
    const [left, found] = executed(2, `${add}; ${find}`, find);
    if (left?.some(([, said]) => said !== 'oneone')) return void process.stderr.write(`skipped: keys of a user: ${left}\n`);
    for (const [, said] of found ?? []) expect(said).toMatch(/^none /);
    expect(found).toHaveLength(2);
  });
});
