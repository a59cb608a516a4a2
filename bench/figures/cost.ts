/** What builder costs: bytes of Redis, an idle system, the start of programs, answers over a long queue and a long history, submitting. */
import type { Figure, Size } from '../figure.ts';
import { answersFigure } from './cost/answers.ts';
import { historyBytesFigure, waitingBytesFigure } from './cost/bytes.ts';
import { idleFigure } from './cost/idle.ts';
import { helpFigure, upFigure } from './cost/starts.ts';

export function costFigures(size: Size): Figure[] {
  const isFull = size === 'full';
  return [
    waitingBytesFigure(isFull ? { runs: 50_000, rounds: 3 } : { runs: 10_000, rounds: 2 }),
    historyBytesFigure(isFull ? 50_000 : 5_000),
    idleFigure({ forMs: isFull ? 60_000 : 10_000, rounds: isFull ? 3 : 1, platforms: isFull ? [1, 10] : [1] }),
    helpFigure(isFull ? 21 : 7),
    upFigure(isFull ? 7 : 3),
    answersFigure(isFull ? { waiting: 100_000, history: 100_000, times: 21 } : { waiting: 15_000, history: 5_000, times: 5 }),
  ];
}
