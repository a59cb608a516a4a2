/** Templates: a script per platform with `%%NAME%%` parameters. */
import { z } from 'zod';
import { InvalidValue } from './invalid-value.ts';
import { NAME_PATTERN } from './names.ts';

const PARAMETER = /%%([A-Z][A-Z0-9_]*)%%/g;
export const PARAMETER_NAME = /^[A-Z][A-Z0-9_]*$/;

export const Template = z.object({ name: z.string().regex(NAME_PATTERN), scripts: z.record(z.string().regex(NAME_PATTERN), z.string()) });
export type Template = z.infer<typeof Template>;

/** Names of the parameters of a script, in order of appearance; `PLATFORM` is given by builder itself. */
export function parametersOf(script: string): string[] {
  return [...new Set([...script.matchAll(PARAMETER)].map((match) => match[1] ?? ''))];
}

/** The script with its parameters in place; throws InvalidValue naming the parameters that have no value. */
export function renderTemplate(script: string, platform: string, params: Record<string, string>): string {
  const values: Record<string, string> = { ...params, PLATFORM: platform };
  const missing = parametersOf(script).filter((name) => values[name] === undefined);
  if (missing.length > 0) {
    throw new InvalidValue(`expected a value for the template's parameter ${missing.join(', ')} (--param ${missing[0]}=…)`);
  }
  return script.replace(PARAMETER, (_, name: string) => values[name] ?? '');
}
