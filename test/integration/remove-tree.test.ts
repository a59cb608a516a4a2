/** Removing what scripts leave, as a user who is not root. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { removeTree } from '../../workers/remove-tree.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const NOBODY = 65_534;

let temp: TempFolder;
let tree: string;

beforeEach(() => {
  temp = tempFolder();
  mkdirSync(`${temp.path}/own`, 0o777);
  tree = `${temp.path}/own/tree`;
  mkdirSync(tree);
});

afterEach(() => temp.remove());

/** Root may do everything: there it is tried as a user who may not. */
async function asUser(work: () => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) return work();
  execFileSync('chown', ['-R', String(NOBODY), `${temp.path}/own`]);
  chmodSync(temp.path, 0o755);
  process.seteuid?.(NOBODY);
  try {
    await work();
  } finally {
    process.seteuid?.(0);
  }
}

describe('a folder is removed', () => {
  test('whatever rights its folders have, and whatever bytes their names', async () => {
    for (const path of ['a/b', 'täglich/ü', 'täglich/leer']) mkdirSync(`${tree}/${path}`, { recursive: true });
    const odd = Buffer.concat([Buffer.from(`${tree}/a/`), Buffer.from([0xff, 0x0a])]);
    mkdirSync(odd);
    for (const path of [`${tree}/a/b/file`, `${tree}/täglich/ü/file`, Buffer.concat([odd, Buffer.from('/file')])]) writeFileSync(path, 'x');
    for (const path of [`${tree}/a/b`, `${tree}/täglich/ü`, odd, `${tree}/täglich`, `${tree}/a`]) chmodSync(path, 0o500);
    chmodSync(`${tree}/täglich/leer`, 0);
    await asUser(() => removeTree(tree));
    expect(existsSync(tree)).toBe(false);
  });

  test.each([
    ['deeper than a path may be long, and shut all the way down', 'open my $file, ">", "file"'],
    ['even without a file but in the deepest of its folders', 'if ($_ == 40) { open my $file, ">", "file" }'],
  ])('%s', async (_, leave) => {
    const chain = `for (1 .. 40) { mkdir "n" x 200; chdir "n" x 200 or die; ${leave} }`;
    execFileSync('perl', ['-e', chain], { cwd: tree });
    await asUser(async () => {
      execFileSync(
        'perl',
        ['-e', 'for (1 .. 40) { chdir "n" x 200; push @all, $_ } for (@all) { chmod 0500, "."; chdir ".." } chmod 0500, "."'],
        {
          cwd: tree,
        },
      );
      await removeTree(tree);
    });
    expect(readdirSync(`${temp.path}/own`)).toEqual([]);
  });

  test('and what a link shows that has taken the place of one of its folders meanwhile is not', async () => {
    mkdirSync(`${temp.path}/victim`);
    writeFileSync(`${temp.path}/victim/kept`, 'kept');
    const folders = ['one', 'other'].map((name) => `${tree}/${name}`);
    for (const folder of folders) {
      mkdirSync(folder);
      for (let n = 0; n < 3_000; n += 1) writeFileSync(`${folder}/${n}`, '');
    }
    const removal = removeTree(tree);
    const begun = await until(
      () => folders.findIndex((folder) => !existsSync(`${folder}/2999`) || !existsSync(`${folder}/0`)) + 1,
      'one to go',
    );
    const later = folders[2 - begun] as string;
    renameSync(later, `${temp.path}/moved`);
    symlinkSync(`${temp.path}/victim`, later);
    await removal;
    expect([existsSync(tree), readFileSync(`${temp.path}/victim/kept`, 'utf8')]).toEqual([false, 'kept']);
  });

  test('with more files than are looked at in one go, and its links are not followed', async () => {
    writeFileSync(`${temp.path}/kept`, 'kept');
    for (let n = 0; n < 1_000; n += 1) writeFileSync(`${tree}/${n}`, '');
    symlinkSync(temp.path, `${tree}/link`);
    symlinkSync(tree, `${temp.path}/own/to-tree`);
    await removeTree(`${temp.path}/own/to-tree`);
    expect(existsSync(tree)).toBe(true);
    await removeTree(tree);
    expect([existsSync(tree), readFileSync(`${temp.path}/kept`, 'utf8')]).toEqual([false, 'kept']);
  });

  test('as far as it can be, and what cannot is told, and tried no more often for lying deep', async () => {
    if (process.getuid?.() !== 0) {
      process.stderr.write('skipped: only root can make what a user cannot remove\n');
      return;
    }
    mkdirSync(`${tree}/own/deep`, { recursive: true });
    await asUser(async () => {
      process.seteuid?.(0);
      for (let depth = 1; depth <= 14; depth += 1) {
        const folder = `${tree}${'/others'.repeat(depth)}`;
        mkdirSync(folder);
        writeFileSync(`${folder}/file`, '');
      }
      process.seteuid?.(NOBODY);
      await expect(removeTree(tree)).rejects.toThrow(/EACCES.*others/);
    });
    expect(readdirSync(tree)).toEqual(['others']);
  });

  test('that is not there', async () => {
    await removeTree(`${tree}/missing`);
    writeFileSync(`${tree}/file`, '');
    await removeTree(`${tree}/file`);
    expect(readdirSync(tree)).toEqual([]);
  });
});
