/** Every figure, in the order of the table. */
import type { Figure, Size } from './figure.ts';
import { artifactFigures } from './figures/artifacts.ts';
import { manyArtifactsFigures } from './figures/many-artifacts.ts';
import { runsFigures } from './figures/runs.ts';

export function figures(size: Size): Figure[] {
  return [...runsFigures(size), ...artifactFigures(size), ...manyArtifactsFigures(size)];
}
