/** What this machine is called as a platform: `debian-12`, `ubuntu-24.04`. */
import { readFile } from 'node:fs/promises';
import { NAME_PATTERN } from '../job/names.ts';
import { BuilderError } from '../service/errors.ts';

const FILES = ['/etc/os-release', '/usr/lib/os-release'];

/** ID-VERSION_ID of os-release(5). Throws `bad-config` where it says none that can be a name. */
export async function platformOfMachine(): Promise<string> {
  for (const file of FILES) {
    const text = await readFile(file, 'utf8').catch(() => null);
    if (text === null) continue;
    const fields = new Map([...text.matchAll(/^([A-Z_]+)=["']?([^"'\n]*)["']?$/gm)].map(([, key, value]) => [key, value]));
    const platform = [fields.get('ID') ?? 'linux', fields.get('VERSION_ID')]
      .filter((part) => part !== undefined && part !== '')
      .join('-')
      .toLowerCase();
    if (NAME_PATTERN.test(platform)) return platform;
  }
  throw new BuilderError('bad-config', `expected an ID in ${FILES[0]} to name the platform, got none: give --platform P`);
}
