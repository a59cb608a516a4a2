import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from '@jest/globals';
import { tickRunId } from '../../src/job/derived-ids.ts';
import { keys } from '../../src/redis/keys.ts';
import { freePorts } from '../support/free-ports.ts';
import { ask } from '../support/http.ts';
import { type Pool, startPool } from '../support/pool.ts';
import { type Program, startProgram } from '../support/system.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

let pool: Pool;

afterEach(() => pool.stop());

const passed = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Kills a server some times at moments of no meaning, and starts it again each time. */
async function killAgainAndAgain(port: number, times: number, first: Program): Promise<void> {
  let program = first;
  for (let count = 0; count < times; count += 1) {
    await passed(200 + Math.random() * 1_500);
    program.child.kill('SIGKILL');
    await program.ended;
    ({ program } = await pool.startServer(port));
  }
}

describe('a server that is killed again and again', () => {
  it('while producers submit: every request with its key makes its one run, and none is lost', async () => {
    pool = await startPool();
    const [port = 0] = await freePorts(1);
    const { program, url } = await pool.startServer(port);
    let killing = true;
    const kills = killAgainAndAgain(port, 5, program).finally(() => {
      killing = false;
    });
    const producer = async (): Promise<string[]> => {
      const ids: string[] = [];
      while (killing) {
        const headers = { 'idempotency-key': randomUUID() };
        const body = { platform: 'test', script: 'true' };
        const id = await until(async () => {
          const answer = await ask({ url, token: pool.access.token }, '/api/v1/runs', { method: 'POST', body, headers }).catch(() => null);
          return answer?.status === 201 ? (answer.json.id as string) : null;
        }, 'a run to be accepted');
        ids.push(id);
      }
      return ids;
    };
    const ids = (await Promise.all(Array.from({ length: 6 }, producer))).flat();
    await kills;
    expect(new Set(ids).size).toBe(ids.length);
    expect((await pool.client.zrange(keys.runsOfPlatform('test'), '0', '-1')).sort()).toEqual([...ids].sort());
    for (const id of ids.slice(-20)) expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
    await until(async () => (await pool.client.zcard(keys.accepting)) === 0, 'nothing to be half accepted');
  });

  it('while jobs are due: every tick makes its one run', async () => {
    pool = await startPool();
    const [port = 0] = await freePorts(1);
    const { program } = await pool.startServer(port);
    const body = { platform: 'test', script: 'true', every: '1s' };
    expect((await pool.api('/jobs/ticking', { method: 'PUT', body })).status).toBe(201);
    await killAgainAndAgain(port, 5, program);
    const { id } = JSON.parse((await pool.client.hget(keys.jobs, 'ticking')) ?? '');
    const ticksWithRuns = async (): Promise<{ runs: string[]; ticks: number[] }> => {
      const runs = await pool.client.zrange(keys.runsOfJob('ticking'), '0', '-1');
      const created = await Promise.all(runs.map(async (run) => Date.parse((await pool.run(run)).createdAt)));
      const firstMs = Math.min(...created);
      const moments = Array.from({ length: 90_000 }, (_, ms) => firstMs - 30_000 + ms);
      return { runs, ticks: moments.filter((ms) => runs.includes(tickRunId(id, 'test', ms))) };
    };
    // A tick that the dead server had taken comes again when its lock has run out.
    await until(async () => {
      const { ticks } = await ticksWithRuns();
      return ticks.length > 5 && ticks.every((ms, index) => index === 0 || ms - (ticks[index - 1] ?? 0) === 1_000);
    }, 'every second to have its run');
    expect((await pool.api('/jobs/ticking', { method: 'DELETE' })).status).toBe(204);
    const { runs, ticks } = await ticksWithRuns();
    expect(runs.length).toBe(ticks.length);
  });
});

describe('a follower', () => {
  it('of a log goes on by itself, whether the server is killed or loses sight of Redis', async () => {
    pool = await startPool();
    const [port = 0] = await freePorts(1);
    const { program, url } = await pool.startServer(port);
    const id = await pool.submit('for n in $(seq 1 100); do echo line $n; sleep 0.1; done');
    const env = { BUILDER_SERVER: url, BUILDER_TOKEN: pool.access.token };
    const follower = startProgram(['observe', id], { cwd: pool.folder.path, env });
    await until(() => follower.stdout.includes('line 10\n'), 'the first lines');
    program.child.kill('SIGKILL');
    await program.ended;
    await pool.startServer(port);
    await until(() => follower.stdout.includes('line 40\n'), 'more lines');
    await pool.serversProxy.set('refuse');
    await passed(3_000);
    await pool.serversProxy.set('pass');
    const { code, stdout } = await follower.ended;
    expect([code, stdout]).toEqual([0, Array.from({ length: 100 }, (_, n) => `line ${n + 1}\n`).join('')]);
  });

  it('notices that its connection is dead although nothing closed it, and goes on', async () => {
    pool = await startPool();
    const [port = 0] = await freePorts(1);
    await pool.startServer(port);
    const between = await startTcpProxy(port);
    const id = await pool.submit('for n in $(seq 1 80); do echo line $n; sleep 1; done');
    const env = { BUILDER_SERVER: `http://127.0.0.1:${between.port}`, BUILDER_TOKEN: pool.access.token };
    const follower = startProgram(['observe', id], { cwd: pool.folder.path, env });
    await until(() => follower.stdout.includes('line 2\n'), 'the first lines');
    await between.set('swallow');
    await between.set('pass');
    const { code, stdout, stderr } = await follower.ended;
    await between.stop();
    expect([code, stdout]).toEqual([0, Array.from({ length: 80 }, (_, n) => `line ${n + 1}\n`).join('')]);
    expect(stderr).toContain('connection lost; trying again');
  }, 180_000);
});
