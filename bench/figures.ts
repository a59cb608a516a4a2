/** Every figure, in the order of the table. */
import type { Figure, Size } from './figure.ts';
import { queueFigures } from './figures/queue.ts';
import { runsFigures } from './figures/runs.ts';
import { startFigures } from './figures/start.ts';

export function figures(size: Size): Figure[] {
  return [...runsFigures(size), ...startFigures(size), ...queueFigures(size)];
}
