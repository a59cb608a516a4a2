/** Every figure, in the order of the table. */
import type { Figure, Size } from './figure.ts';
import { logsFigures } from './figures/logs.ts';
import { runsFigures } from './figures/runs.ts';

export function figures(size: Size): Figure[] {
  return [...runsFigures(size), ...logsFigures(size)];
}
