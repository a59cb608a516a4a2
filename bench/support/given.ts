/** A goal that is no ratio of two measurements: a value that is given. */
import type { Contender, Values } from '../figure.ts';

export function given(name: string, values: Values): Contender {
  const measured = { measure: async () => values, close: async () => undefined };
  return { name, kind: 'limit', setting: 'a value that is given', open: async () => measured };
}
