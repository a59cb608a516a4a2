/** After a chaos run: what was accepted against what is recorded, served and left. */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import type { Artifact } from '../../src/job/artifact.ts';
import type { Run } from '../../src/job/run.ts';
import { bullActiveKey, keys, runQueue } from '../../src/redis/keys.ts';
import { type Pool, processesOf, runFolders } from '../support/pool.ts';
import { until } from '../support/until.ts';
import type { ChaosJob } from './jobs.ts';

export interface Accepted {
  id: string;
  job: ChaosJob;
}

/** Outcomes that builder itself may have to choose, with what their reason must begin with. */
const GIVEN_UP: Record<string, RegExp> = { lost: /^worker-died: /, refused: /^cannot-prepare: / };

/** A backlog of the last minute, and the locks of the last faults. */
const ENDED_MS = 120_000;

export interface Reckoning {
  /** As they ended. */
  runs: Run[];
  /** What is wrong, one line each. */
  differences: string[];
  /** What may explain it: attempts, and what the programs said of the runs. */
  notes: string[];
}

/** `revive` starts what died since: what the dead left is for the next start. */
export async function reconcile(pool: Pool, accepted: Accepted[], revive: () => Promise<void>): Promise<Reckoning> {
  const differences: string[] = [];
  const notes: string[] = [];
  const runs: Run[] = [];
  const isOpen = async ({ id }: Accepted): Promise<boolean> => (await pool.client.hexists(keys.run(id), 'result')) === 0;
  const allEnded = async (): Promise<boolean> => !(await Promise.all(accepted.map(isOpen))).includes(true);
  await until(allEnded, 'every run to end', ENDED_MS).catch(() => undefined);
  for (const { id, job } of accepted) {
    const run = await pool.run(id);
    runs.push(run);
    const faults =
      run.state === 'finished'
        ? [...outcomeFaults(run, job), ...(await logFaults(pool, run, job))]
        : [`never ended: ${run.state}, ${JSON.stringify(run.attempts)}`];
    if (run.outcome === job.outcome && faults.length === 0) faults.push(...(await artifactFaults(pool, run, job)));
    differences.push(...faults.map((fault) => `run ${id} (${job.kind}): ${fault}`));
    if (faults.length > 0) notes.push(JSON.stringify(run.attempts), ...pool.told(id));
  }
  await revive();
  const left = await leftOver(pool);
  differences.push(...(await unknownRuns(pool, accepted)), ...left);
  for (const [id] of left.join().matchAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g)) notes.push(...pool.told(id));
  return { runs, differences, notes };
}

function outcomeFaults(run: Run, job: ChaosJob): string[] {
  const isGivenUp = GIVEN_UP[run.outcome ?? '']?.test(run.reason ?? '') === true;
  const faults: string[] = [];
  if (run.outcome !== job.outcome && !isGivenUp) faults.push(`expected ${job.outcome}, got ${run.outcome} (${run.reason})`);
  if (run.outcome === 'failed' && run.exitCode !== job.exitCode) faults.push(`expected exit code ${job.exitCode}, got ${run.exitCode}`);
  const counting = run.attempts.filter(({ outcome }) => outcome !== 'superseded' && outcome !== 'interrupted');
  const wanted = isGivenUp || run.outcome === 'cancelled' ? null : run.outcome === 'refused' ? 1 : (job.attempts ?? 1);
  if (wanted === null ? counting.length > (job.attempts ?? 1) : counting.length !== wanted)
    faults.push(`${counting.length} attempts count, expected ${wanted}: ${run.attempts.map(({ outcome }) => outcome).join(', ')}`);
  return faults;
}

/** Lines, bytes and digest are reckoned anew from the log as it is served. */
async function logFaults(pool: Pool, run: Run, job: ChaosJob): Promise<string[]> {
  const body = (await pool.api(`/runs/${run.id}/log`)).body;
  const text = body.toString();
  const got = { lines: text.split('\n').length - 1, bytes: body.length, sha256: createHash('sha256').update(body).digest('hex') };
  const faults: string[] = [];
  for (const name of ['lines', 'bytes', 'sha256'] as const)
    if (got[name] !== run.log[name]) faults.push(`log: expected ${name} ${run.log[name]}, served ${got[name]}`);
  if (run.log.missing > 0) faults.push(`log: ${run.log.missing} lines missing`);
  const own = text.replace(/^builder: .*\n/gm, '');
  if (run.outcome === job.outcome && job.said !== null && own !== job.said && job.outcome !== 'cancelled')
    faults.push(`log: expected ${job.said.length} characters, got ${own.length}: …${JSON.stringify(own.slice(-60))}`);
  if (job.said === null) {
    const ticks = own.split('\n').slice(0, -1);
    const wrong = ticks.findIndex((line, index) => line !== `tick ${index + 1}`);
    if (wrong >= 0) faults.push(`log: expected tick ${wrong + 1}, got ${ticks[wrong]}`);
  }
  return faults;
}

async function artifactFaults(pool: Pool, run: Run, job: ChaosJob): Promise<string[]> {
  const { artifacts } = (await pool.api(`/runs/${run.id}/artifacts`)).json as { artifacts: Artifact[] };
  const faults: string[] = [];
  const paths = artifacts.map(({ path }) => path).sort();
  const wanted = Object.keys(job.artifacts).sort();
  if (paths.join() !== wanted.join()) faults.push(`artifacts: expected ${wanted}, got ${paths}`);
  for (const [path, content] of Object.entries(job.artifacts)) {
    const { body } = await pool.api(`/runs/${run.id}/artifacts/${path}`);
    if (!body.equals(Buffer.from(content))) faults.push(`artifact ${path}: other bytes than were written`);
  }
  return faults;
}

async function unknownRuns(pool: Pool, accepted: Accepted[]): Promise<string[]> {
  const known = new Set(accepted.map(({ id }) => id));
  const recorded = await pool.client.zrange(keys.runsOfPlatform('test'), '0', '-1');
  return [
    ...recorded.filter((id) => !known.has(id)).map((id) => `run ${id}: nobody was told that it is accepted`),
    ...(recorded.length === known.size ? [] : [`expected ${known.size} runs, got ${recorded.length}`]),
  ];
}

/** What is in work a moment longer than the run's end is waited for. */
async function leftOver(pool: Pool): Promise<string[]> {
  const queue = runQueue('test');
  const names = readdirSync(`${pool.folder.path}/work`);
  const look: [string, () => Promise<unknown[]> | unknown[]][] = [
    ['processes of runs', () => processesOf(`HOME=${pool.folder.path}/work`)],
    ['folders of runs', () => names.flatMap((name) => runFolders(pool, name))],
    ['active jobs', () => pool.client.lrange(bullActiveKey(queue), '0', '-1')],
    ['waiting jobs', () => pool.client.zrange(bullActiveKey(queue).replace(/active$/, 'prioritized'), '0', '-1')],
    ['open runs', () => pool.client.zrange(keys.openRuns('test'), '0', '-1')],
    ['logs in Redis without an end', () => lastingLogs(pool)],
    ['half-accepted runs', () => pool.client.zrange(keys.accepting, '0', '-1')],
    ['cancellations', () => pool.client.zrange(keys.cancelling, '0', '-1')],
  ];
  const faults: string[] = [];
  for (const [what, find] of look) {
    await until(async () => (await find()).length === 0, `no ${what}`, 30_000).catch(() => undefined);
    const left = await find();
    if (left.length > 0) faults.push(`left over: ${left.length} ${what}: ${left.slice(0, 5)}`);
  }
  return faults;
}

/** Streams that would never expire. */
async function lastingLogs(pool: Pool): Promise<string[]> {
  const logs = await pool.client.keys('*:log:*');
  const lives = await Promise.all(logs.map((key) => pool.client.pttl(key)));
  return logs.filter((_, index) => (lives[index] ?? 0) < 0);
}
