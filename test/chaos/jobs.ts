/** The jobs of a chaos run: every outcome, with what each must say and leave. */
import { createHash } from 'node:crypto';

export interface ChaosJob {
  kind: string;
  script: string;
  /** Beside platform and script. */
  options: object;
  /** How it ends when builder itself does not have to give it up. */
  outcome: string;
  exitCode?: number;
  /** What the script itself says; null where it is cut off at an unknown place, and then these are the lines it may say. */
  said: string | null;
  /** Path and content. */
  artifacts: Record<string, string>;
  /** Attempts that neither a dead nor a stopped worker cut short; one, unless its policy retries it. */
  attempts?: number;
  /** Is cancelled so long after it was accepted. */
  cancelAfterMs?: number;
}

/** Numbers from a seed: mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function between(random: () => number, low: number, high: number): number {
  return Math.floor(low + random() * (high - low + 1));
}

export function oneOf<T>(random: () => number, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)] as T;
}

const lines = (count: number, textOf: (n: number) => string): string =>
  Array.from({ length: count }, (_, n) => `${textOf(n + 1)}\n`).join('');

/** What every chaos run has in its store. */
export const INPUT = 'an input of many runs\n';
const inputSha256 = createHash('sha256').update(INPUT).digest('hex');

const KINDS: Record<string, (random: () => number, number: number) => Omit<ChaosJob, 'kind'>> = {
  succeeds: (_, n) => ({
    script: `echo "run ${n}"; echo "kept of ${n}" > kept.txt`,
    options: {},
    outcome: 'succeeded',
    said: `run ${n}\n`,
    artifacts: { 'kept.txt': `kept of ${n}\n` },
  }),
  fails: (random, n) => {
    const code = between(random, 1, 99);
    const artifacts = { 'why.txt': `because of ${n}\n` };
    return {
      script: `echo failing; echo "because of ${n}" > why.txt; exit ${code}`,
      options: {},
      outcome: 'failed',
      exitCode: code,
      said: 'failing\n',
      artifacts,
    };
  },
  'is killed by a signal': (_, n) => ({
    script: `echo last words > words; printf 'no newline ${n}'; kill -9 $$`,
    options: {},
    outcome: 'signalled',
    said: `no newline ${n}\n`,
    artifacts: { words: 'last words\n' },
  }),
  'times out': () => ({
    script: 'echo waiting; sleep 600',
    options: { timeoutMs: 1_500, graceMs: 500 },
    outcome: 'timed-out',
    said: 'waiting\n',
    artifacts: {},
  }),
  'is cancelled': (random) => ({
    script: 'n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.2; done',
    options: { graceMs: 500 },
    outcome: 'cancelled',
    said: null,
    artifacts: {},
    cancelAfterMs: between(random, 0, 4_000),
  }),
  'leaves a daemon': (_, n) => ({
    script: `setsid sleep 1000 > /dev/null 2>&1 & (trap '' TERM; sleep 1000 & wait) > /dev/null 2>&1 & echo left ${n}`,
    options: {},
    outcome: 'succeeded',
    said: `left ${n}\n`,
    artifacts: {},
  }),
  'talks much': (random, n) => {
    const count = between(random, 5_000, 60_000);
    return {
      script: `seq -f 'line %.0f of run ${n}, which is a long one that fills what it can' 1 ${count}`,
      options: {},
      outcome: 'succeeded',
      said: lines(count, (line) => `line ${line} of run ${n}, which is a long one that fills what it can`),
      artifacts: {},
    };
  },
  'talks for long': (random) => {
    const count = between(random, 20, 100);
    return {
      script: `n=0; while [ $n -lt ${count} ]; do n=$((n+1)); echo slow line $n; sleep 0.1; done`,
      options: {},
      outcome: 'succeeded',
      said: lines(count, (line) => `slow line ${line}`),
      artifacts: {},
    };
  },
  'is refused': () => ({
    script: 'echo never',
    options: { secrets: ['THAT_NO_WORKER_HAS'] },
    outcome: 'refused',
    said: '',
    artifacts: {},
  }),
  'is tried again': (random) => {
    const retries = between(random, 1, 3);
    return {
      script: 'echo no; exit 5',
      options: { retries, retryOn: ['failed'], backoffMs: 100 },
      outcome: 'failed',
      exitCode: 5,
      said: 'no\n',
      artifacts: {},
      attempts: retries + 1,
    };
  },
  'reads an input': (_, n) => ({
    script: `cat in/put; echo ${n} >> in/put`,
    options: { inputs: [{ path: 'in/put', sha256: inputSha256, mode: 0o644 }] },
    outcome: 'succeeded',
    said: INPUT,
    artifacts: { 'in/put': `${INPUT}${n}\n` },
  }),
  'leaves files': (random, n) => {
    const [files, numbers] = [between(random, 1, 20), between(random, 10, 50_000)];
    const artifacts: Record<string, string> = { 'deep/er/numbers': lines(numbers, String) };
    for (let file = 1; file <= files; file += 1) artifacts[`file-${file}`] = `file ${file} of ${n}\n`;
    return {
      script: `mkdir -p deep/er; seq 1 ${numbers} > deep/er/numbers; for f in $(seq 1 ${files}); do echo "file $f of ${n}" > file-$f; done`,
      options: {},
      outcome: 'succeeded',
      said: '',
      artifacts,
    };
  },
};

/** Where no namespace keeps it from that, and then it is lost when it has done so to several. */
const KILLS_ITS_WORKER: Omit<ChaosJob, 'kind'> = {
  // The parent of what started it; in a namespace there is none.
  script: 'echo at it; read _ _ _ worker _ </proc/$PPID/stat; [ $worker -le 1 ] || kill -9 $worker; sleep 1; echo not dead',
  options: {},
  outcome: 'succeeded',
  said: 'at it\nnot dead\n',
  artifacts: {},
};
/** The neighbours of such a run suffer with it. */
const KILLERS_PART = 1 / 60;

export function chaosJob(random: () => number, number: number): ChaosJob {
  if (random() < KILLERS_PART) return { kind: 'kills its worker', ...KILLS_ITS_WORKER };
  const kind = oneOf(random, Object.keys(KINDS));
  return { kind, ...(KINDS[kind] as (typeof KINDS)[string])(random, number) };
}
