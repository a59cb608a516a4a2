/** Every figure, in the order of the table. */
import type { Figure, Size } from './figure.ts';
import { artifactFigures } from './figures/artifacts.ts';
import { costFigures } from './figures/cost.ts';
import { logsFigures } from './figures/logs.ts';
import { manyArtifactsFigures } from './figures/many-artifacts.ts';
import { queueFigures } from './figures/queue.ts';
import { runsFigures } from './figures/runs.ts';
import { startFigures } from './figures/start.ts';

export function figures(size: Size): Figure[] {
  return [runsFigures, startFigures, logsFigures, artifactFigures, manyArtifactsFigures, queueFigures, costFigures].flatMap((of) =>
    of(size),
  );
}
