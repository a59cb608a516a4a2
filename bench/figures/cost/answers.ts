/** How long answers take while a great many runs wait and have ended. */
import type { Contender, Figure } from '../../figure.ts';
import { answerTimes } from '../../support/asking.ts';
import { fillHistory, fillWaiting, openBenchQueues } from '../../support/filling.ts';
import { given } from '../../support/given.ts';
import { PLATFORM, startPool } from '../../support/pool.ts';

const WANTED_MS = 50;
const API = '/api/v1';
const QUESTIONS = [
  'info',
  'runs',
  'runs-page',
  'runs-job',
  'runs-outcome',
  'runs-both',
  'runs-none',
  'show',
  'why',
  'workers',
  'metrics',
  'page',
  'board',
];

interface Filling {
  waiting: number;
  history: number;
  times: number;
}

export function answersFigure(o: Filling): Figure {
  const limit = given(`${WANTED_MS} ms`, Object.fromEntries(QUESTIONS.map((name) => [name, WANTED_MS])));
  return {
    name: 'answers',
    title: `answers with ${o.waiting} runs that wait and ${o.history} that have ended, medians`,
    statistics: QUESTIONS.map((name) => ({ name, unit: 'ms', better: 'less' })),
    goals: QUESTIONS.map((statistic) => ({ statistic, contender: 'builder', against: [limit.name], ratio: 1 })),
    contenders: [builder(o), limit],
    rounds: 3,
  };
}

function builder(o: Filling): Contender {
  return {
    name: 'builder',
    kind: 'builder',
    setting: `one server, folder store, no worker is alive; one client, one question at a time, median of ${o.times} in a round; pages of 50 runs`,
    open: async () => {
      const pool = await startPool({ workers: 0, concurrency: 1, sandbox: 'none' });
      const queues = openBenchQueues(pool.redisUrl);
      const ended = await fillHistory(queues, o.history, { platform: 'ended', job: (n) => `job-${n % 5}` });
      const waiting = await fillWaiting(queues, o.waiting, { platform: PLATFORM, job: (n) => (n % 2 === 0 ? 'job-1' : null) });
      const [run = '', last = ''] = [ended[Math.floor(ended.length / 2)], waiting.at(-1)];
      const questions: Record<(typeof QUESTIONS)[number], string> = {
        info: `${API}/info`,
        runs: `${API}/runs`,
        'runs-page': `${API}/runs?cursor=${run}`,
        'runs-job': `${API}/runs?job=job-1`,
        'runs-outcome': `${API}/runs?outcome=failed`,
        'runs-both': `${API}/runs?job=job-1&outcome=failed`,
        'runs-none': `${API}/runs?platform=${PLATFORM}&outcome=failed`,
        show: `${API}/runs/${run.slice(0, 13)}`,
        why: `${API}/runs/${last}/why`,
        workers: `${API}/workers`,
        metrics: '/metrics',
        page: '/',
        board: `/board/api/queues?activeQueue=run-${PLATFORM}&status=prioritized&page=1&jobsPerPage=10`,
      };
      return {
        measure: () => answerTimes(pool, questions, o.times),
        close: async () => {
          await queues.close();
          await pool.close();
        },
      };
    },
  };
}
