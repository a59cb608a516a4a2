/** How often V8 collects garbage in a program that passes many bytes on. */
import { setFlagsFromString } from 'node:v8';

/**
 * V8 counts buffers as growth of its heap and collects all of it after some ten megabytes of them, in which next to nothing lives: a third of the
 * processor over a long log (docs/decisions/0010). Node 20 to 24 have the flag.
 */
export function collectLessOften(): void {
  setFlagsFromString('--heap-growing-percent=400');
}
