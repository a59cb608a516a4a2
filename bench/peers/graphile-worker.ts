/** Peer: graphile-worker and execa on PostgreSQL, as its introduction has it: one worker, a task that executes a script. No log, no artifacts, no sandbox. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Logger, makeWorkerUtils, type WorkerUtils } from 'graphile-worker';
import { type Contender, Void } from '../figure.ts';
import { startPostgres } from '../support/postgres.ts';

const WORKER = fileURLToPath(new URL('graphile-worker-worker.js', import.meta.url));
const POLL_MS = 20;

export function graphileWorker(o: { runs: number; concurrency: number }): Contender {
  return {
    name: 'graphile-worker + execa',
    kind: 'peer',
    setting: `one worker process, concurrency ${o.concurrency}, PostgreSQL with fsync, add_jobs of all; no log, no artifacts`,
    open: async () => {
      const postgres = await startPostgres();
      const logger = new Logger(() => () => undefined);
      const utils = await makeWorkerUtils({ connectionString: postgres.connectionString, logger });
      await utils.migrate();
      const worker = fork(WORKER, [postgres.connectionString, String(o.concurrency)]);
      await once(worker, 'message');
      return {
        measure: async () => ({ rate: await rateOf(utils, o.runs) }),
        close: async () => {
          await endOf(worker);
          await utils.release();
          await postgres.stop();
        },
      };
    },
  };
}

/** A job that has succeeded is removed; one that failed stays, with its error. */
async function rateOf(utils: WorkerUtils, runs: number): Promise<number> {
  const jobs = Array.from({ length: runs }, () => ({ identifier: 'script', payload: { script: 'true' } }));
  const add =
    'SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(SELECT json_populate_recordset(NULL::graphile_worker.job_spec, $1::json)))';
  const look = 'SELECT count(*)::int AS open, count(last_error)::int AS failed FROM graphile_worker.jobs';
  const begunAtMs = performance.now();
  const { rows } = await utils.withPgClient((client) => client.query(add, [JSON.stringify(jobs)]));
  if (Number(rows[0].count) !== runs) throw new Void(`expected ${runs} jobs to be added, got ${rows[0].count}`);
  for (;;) {
    const { open, failed } = (await utils.withPgClient((client) => client.query(look))).rows[0];
    if (failed > 0) throw new Void(`expected ${runs} jobs to succeed, got ${failed} that failed`);
    if (open === 0) return (runs * 1000) / (performance.now() - begunAtMs);
    await delay(POLL_MS);
  }
}

async function endOf(worker: ChildProcess): Promise<void> {
  worker.kill('SIGTERM');
  await once(worker, 'exit');
}
