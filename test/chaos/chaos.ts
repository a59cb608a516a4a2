/** A chaos run: for some minutes a stream of jobs of every outcome under random faults, then a reconciliation. */
import { randomUUID } from 'node:crypto';
import { freePorts } from '../support/free-ports.ts';
import { ask } from '../support/http.ts';
import { type Pool, startPool } from '../support/pool.ts';
import { doFault, FAULT_KINDS, linkStore, pauseOf, startTroop, type Troop } from './faults.ts';
import { between, chaosJob, INPUT, oneOf, randomFrom } from './jobs.ts';
import { type Accepted, reconcile } from './reconcile.ts';

export interface ChaosReport {
  seed: number;
  minutes: number;
  runs: number;
  attempts: number;
  byOutcome: Record<string, number>;
  byKind: Record<string, number>;
  faults: Record<string, number>;
  differences: string[];
}

export async function runChaos(o: { seed: number; minutes: number; say: (text: string) => void }): Promise<ChaosReport> {
  o.say(`chaos: seed ${o.seed}, ${o.minutes} minutes`);
  const pool = await startPool({ workers: [] });
  try {
    linkStore(pool);
    const troop = await startTroop(pool, await freePorts(2), ['auto', 'none', 'none']);
    await pool.api('/inputs', { method: 'PUT', body: Buffer.from(INPUT), headers: { 'content-type': 'application/octet-stream' } });
    const endsAtMs = performance.now() + o.minutes * 60_000;
    const isOver = (): boolean => performance.now() > endsAtMs;
    const faults: Record<string, number> = {};
    const [accepted] = await Promise.all([
      stream(troop, randomFrom(o.seed), isOver),
      trouble(pool, troop, { random: randomFrom(o.seed + 1), isOver, faults, say: o.say }),
    ]);
    o.say(`chaos: ${accepted.length} runs accepted; all faults are over`);
    await troop.end();
    const { runs, differences, notes } = await reconcile(pool, accepted, troop.end);
    for (const note of notes) o.say(`chaos: ${note}`);
    return {
      seed: o.seed,
      minutes: o.minutes,
      runs: runs.length,
      attempts: runs.reduce((sum, { attempts }) => sum + (attempts?.length ?? 0), 0),
      byOutcome: countBy(runs.map(({ outcome }) => outcome ?? 'none')),
      byKind: countBy(accepted.map(({ job }) => job.kind)),
      faults,
      differences,
    };
  } finally {
    await pool.stop();
  }
}

async function stream(troop: Troop, random: () => number, isOver: () => boolean): Promise<Accepted[]> {
  const accepted: Promise<Accepted>[] = [];
  for (let number = 1; !isOver(); number += 1) {
    const job = chaosJob(random, number);
    const body = { platform: 'test', script: job.script, ...job.options };
    const key = randomUUID();
    accepted.push(
      insist(troop, random, { path: '/runs', body, headers: { 'idempotency-key': key }, good: [201] }).then(async ({ id }) => {
        if (job.cancelAfterMs !== undefined) {
          await pauseOf(job.cancelAfterMs);
          await insist(troop, random, { path: `/runs/${id}/cancel`, body: { reason: 'chaos' }, headers: {}, good: [200, 202, 409] });
        }
        return { id, job };
      }),
    );
    await pauseOf(between(random, 100, 900));
  }
  return Promise.all(accepted);
}

interface Insisting {
  path: string;
  body: object;
  headers: Record<string, string>;
  good: number[];
}

/** The same request to any server until one answers it, as a careful producer does. */
async function insist(troop: Troop, random: () => number, { path, body, headers, good }: Insisting): Promise<{ id: string }> {
  for (;;) {
    const { url } = oneOf(random, troop.servers);
    const access = { url, token: 'a-bootstrap-token-of-a-test' };
    const asked = ask(access, `/api/v1${path}`, { method: 'POST', body, headers }).catch((cause) => ({
      status: 0,
      text: String(cause),
      json: null,
    }));
    const answer = await Promise.race([asked, pauseOf(8_000).then(() => ({ status: 0, text: 'no answer', json: null }))]);
    if (good.includes(answer.status)) return answer.json;
    if (answer.status >= 400 && answer.status < 500) throw new Error(`${path}: ${answer.status} ${answer.text}`);
    await pauseOf(200);
  }
}

interface Trouble {
  random: () => number;
  isOver: () => boolean;
  faults: Record<string, number>;
  say: (text: string) => void;
}

/** One fault after the other, sometimes the next while one lasts. Resolves when all are over. */
async function trouble(pool: Pool, troop: Troop, { random, isOver, faults, say }: Trouble): Promise<void> {
  const lasting = new Map<string, Promise<void>>();
  while (!isOver()) {
    await pauseOf(between(random, 1_000, 5_000));
    const kind = oneOf(random, FAULT_KINDS);
    // What acts on the same thing waits for its turn.
    if (lasting.has(thingOf(kind))) continue;
    faults[kind] = (faults[kind] ?? 0) + 1;
    const fault = doFault(kind, pool, troop, random)
      .catch((cause) => say(`chaos: ${kind}: ${cause}`))
      .finally(() => lasting.delete(thingOf(kind)));
    lasting.set(thingOf(kind), fault);
    if (random() < 0.6) await fault;
  }
  await Promise.all(lasting.values());
}

function thingOf(kind: string): string {
  if (/store/.test(kind)) return 'store';
  if (/of Redis|Redis suspended/.test(kind)) return 'Redis';
  if (/suspended|kill -9 of a/.test(kind)) return /worker/.test(kind) ? 'a worker' : 'a server';
  return /workers|slow/.test(kind) ? 'the way of workers' : /servers/.test(kind) ? 'the way of servers' : kind;
}

function countBy(names: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names.sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
