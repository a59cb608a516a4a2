/** A pool whose store is a real S3 server, behind a proxy that does to it what networks and busy servers do. */
import { existsSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { blobKey } from '../../src/artifacts/store.ts';
import { limits } from '../../src/job/limits.ts';
import { sha256Of } from '../support/contents.ts';
import { firstTimes } from '../support/fault-proxy.ts';
import { type Pool, startPool } from '../support/pool.ts';
import { openS3Fixture, type S3Fixture } from '../support/s3-fixture.ts';
import { type S3Server, startS3Server } from '../support/s3-server.ts';
import type { Program } from '../support/system.ts';
import { until } from '../support/until.ts';

const LARGE_BYTES = 2.5 * limits.s3PartBytes;
const HOUR_MS = 3_600_000;
// Decided before the tests are told, because a test that cannot run must be shown as skipped.
const server = await startS3Server();
let s3: S3Fixture;
let pool: Pool;

afterAll(() => server?.stop());

/** Content that no other run has: one line again and again. */
function contentOf(name: string, bytes: number): Buffer {
  return Buffer.alloc(bytes, `${name}\n`);
}

/** A script that waits for a file, then leaves that content as `data`. */
function makes(name: string, bytes: number): string {
  return `: > "$GO.ready"; until [ -e "$GO" ]; do sleep 0.05; done; yes ${name} | head -c ${bytes} > data; echo made`;
}

/** A run whose script stands before its end; `goOn` lets it end. */
async function standing(name: string, bytes: number, platform = 'test'): Promise<{ id: string; goOn: () => void }> {
  const go = `${pool.folder.path}/${name}`;
  const id = await pool.submit(makes(name, bytes), { platform, env: { GO: go } });
  await until(() => existsSync(`${go}.ready`), 'the script to run');
  return { id, goOn: () => writeFileSync(go, '') };
}

async function expectStored(id: string, content: Buffer): Promise<void> {
  const run = await pool.finished(id);
  expect(run).toMatchObject({ outcome: 'succeeded', attempt: 1, artifactCount: 1, log: { lines: 1, missing: 0 } });
  await expectContent(id, content);
  expect(await pool.log(id)).toBe('made\n');
}

async function expectContent(id: string, content: Buffer): Promise<void> {
  const [artifact] = (await pool.api(`/runs/${id}/artifacts`)).json.artifacts;
  const { body } = await pool.api(`/runs/${id}/artifacts/data`);
  expect([artifact.bytes, artifact.sha256]).toEqual([content.length, sha256Of(content)]);
  expect([body.length, sha256Of(body)]).toEqual([content.length, artifact.sha256]);
}

const one = (): Program => pool.workers.get('one') as Program;
const says = (text: string | RegExp, program = one()) => {
  const from = program.stderr.length;
  const said = () => program.stderr.slice(from);
  return until(() => (typeof text === 'string' ? said().includes(text) : text.test(said())), `the worker to say ${text}`);
};

(server === null ? describe.skip : describe)('an S3 store', () => {
  beforeAll(async () => {
    s3 = await openS3Fixture(server as S3Server);
    const { bucket, region, accessKey, secretKey } = s3.config;
    pool = await startPool({
      store: {
        BUILDER_STORE: `s3://${bucket}`,
        BUILDER_S3_ENDPOINT: s3.proxy.endpoint,
        BUILDER_S3_REGION: region,
        BUILDER_S3_ACCESS_KEY: accessKey,
        BUILDER_S3_SECRET_KEY: secretKey,
      },
    });
  });

  afterEach(() => {
    s3.proxy.set(() => undefined);
    s3.proxy.shiftClock(0);
  });

  afterAll(async () => {
    await pool?.stop();
    await s3?.close();
  });

  it('that answers 503 SlowDown for a while when a script ends: the run waits, and is stored when the store takes requests again', async () => {
    const { id, goOn } = await standing('slow-down', LARGE_BYTES);
    const told = says(/HTTP 503.*refused; trying again/);
    s3.proxy.set(() => ({ refuse: 503, code: 'SlowDown' }));
    goOn();
    await told;
    expect((await pool.run(id)).state).toBe('running');
    await until(async () => (await pool.api('/../../readyz')).status === 503, 'the server to be not ready');
    s3.proxy.set(() => undefined);
    await expectStored(id, contentOf('slow-down', LARGE_BYTES));
  });

  it('whose connections break half-way through an upload, again and again: every byte arrives', async () => {
    const { id, goOn } = await standing('half-way', LARGE_BYTES);
    const cuts = [/partNumber=1/, /partNumber=3/, /^PUT [^?]*$/].map((matching) => firstTimes(3, matching, 'cut-request'));
    let cut = 0;
    s3.proxy.set((line) => {
      const fault = cuts.map((faultOf) => faultOf(line)).find((found) => found !== undefined);
      if (fault !== undefined) cut += 1;
      return fault;
    });
    goOn();
    await expectStored(id, contentOf('half-way', LARGE_BYTES));
    expect(cut).toBe(9);
    expect(await s3.unfinished()).toEqual([]);
  });

  it('whose answers get lost after it has done its work: every byte is there, once', async () => {
    const { id, goOn } = await standing('lost-answer', LARGE_BYTES);
    const losses = [/partNumber=2/, /^POST .*uploadId=/, /^PUT [^?]*$/].map((matching) => firstTimes(2, matching, 'lose-answer'));
    let lost = 0;
    s3.proxy.set((line) => {
      const fault = losses.map((faultOf) => faultOf(line)).find((found) => found !== undefined);
      if (fault !== undefined) lost += 1;
      return fault;
    });
    goOn();
    await expectStored(id, contentOf('lost-answer', LARGE_BYTES));
    expect(lost).toBeGreaterThanOrEqual(5);
    expect(await s3.unfinished()).toEqual([]);
  });

  it('that is slower than a lock lives: the run ends well, its worker is heard of all the time, nobody takes it over', async () => {
    const other = await pool.startWorker('other');
    const { id, goOn } = await standing('slow', LARGE_BYTES);
    const worker = (await pool.run(id)).worker;
    s3.proxy.set((line) => (/^PUT/.test(line) ? { trickleMs: 25 } : undefined));
    goOn();
    const soon = AbortSignal.timeout(limits.lockDurationMs + 1_000);
    while (!soon.aborted) {
      const { workers } = (await pool.api('/workers')).json;
      expect(workers.map((found: { name: string }) => found.name)).toContain(worker);
      expect((await pool.run(id)).state).toBe('running');
    }
    await expectStored(id, contentOf('slow', LARGE_BYTES));
    expect((await pool.run(id)).attempts).toHaveLength(1);
    other.child.kill('SIGTERM');
    expect((await other.ended).code).toBe(0);
  });

  it('that is full: the run is lost with a reason after a bounded wait, its log is kept, the worker takes the next run', async () => {
    const { id, goOn } = await standing('full', 1_000);
    s3.proxy.set((line) => (/^PUT .*\/blobs\//.test(line) ? { refuse: 507, code: 'XMinioStorageFull' } : undefined));
    const told = says(/expected room in the store.*refused; trying again/);
    goOn();
    await told;
    expect((await pool.run(id)).state).toBe('running');
    const run = await pool.finished(id);
    expect(run).toMatchObject({
      outcome: 'lost',
      reason: expect.stringMatching(/^not-stored: ended as succeeded.*room/),
      artifactCount: 0,
    });
    expect(await pool.log(id)).toBe('made\n');
    s3.proxy.set(() => undefined);
    const next = await standing('after-full', 1_000);
    next.goOn();
    await expectStored(next.id, contentOf('after-full', 1_000));
  });

  it('that refuses while many runs wait: their scripts run on, but no more than twice as many runs are taken as may run at a time', async () => {
    s3.proxy.set((line) => (/^PUT .*\/runs\//.test(line) ? { refuse: 503, code: 'SlowDown' } : undefined));
    const from = one().stderr.length;
    const ids = await Promise.all(Array.from({ length: 7 }, () => pool.submit('true')));
    const waitingFor = () =>
      ids.filter((id) =>
        one()
          .stderr.slice(from)
          .split('\n')
          .some((line) => line.includes(id) && line.includes('trying again')),
      );
    await until(() => waitingFor().length >= 4, 'four runs to wait for the store');
    const states = await Promise.all(ids.map(async (id) => (await pool.run(id)).state));
    expect(states.sort()).toEqual(['running', 'running', 'running', 'running', 'waiting', 'waiting', 'waiting']);
    s3.proxy.set(() => undefined);
    for (const id of ids) expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
  });

  it("that refuses because the worker's clock is wrong: the run waits, the worker says that it is the clock", async () => {
    const { id, goOn } = await standing('skew', 1_000);
    // A real server says so too: with a code where there is a body, and with its own time in every answer.
    s3.proxy.shiftClock(2 * HOUR_MS);
    s3.proxy.set(() => ({ refuse: 403, code: 'RequestTimeTooSkewed' }));
    // An answer tells whole seconds.
    const told = says(/expected the clock of this machine.*(2h|1h59m59s) behind it.*refused; trying again/);
    goOn();
    await told;
    expect((await pool.run(id)).state).toBe('running');
    s3.proxy.set(() => undefined);
    s3.proxy.shiftClock(0);
    await expectStored(id, contentOf('skew', 1_000));
  });

  it('while a worker is killed in the middle of an upload: nothing of it is seen, another worker does the run, a later start removes the rest', async () => {
    const victim = await pool.startWorker('victim', { platforms: ['killed'] });
    const { id, goOn } = await standing('killed', LARGE_BYTES, 'killed');
    const sha256 = sha256Of(contentOf('killed', LARGE_BYTES));
    s3.proxy.set((line) => (/partNumber=2/.test(line) ? { trickleMs: 1_000 } : undefined));
    goOn();
    await until(async () => (await s3.unfinished()).includes(blobKey(sha256)), 'the upload to begin');
    victim.child.kill('SIGKILL');
    await victim.ended;
    expect(await s3.store.statBlob(sha256)).toBeNull();
    s3.proxy.set(() => undefined);
    await pool.startWorker('heir', { platforms: ['killed'] });
    const run = await pool.finished(id);
    expect(run.attempts).toMatchObject([
      { worker: 'victim', outcome: 'superseded' },
      { worker: 'heir', outcome: 'succeeded' },
    ]);
    await expectContent(id, contentOf('killed', LARGE_BYTES));
    expect(await s3.unfinished()).toEqual([blobKey(sha256)]);
    s3.proxy.shiftClock(limits.storeLeftoverMs + 60_000);
    await pool.startWorker('sweeper', { platforms: ['killed'] });
    expect(await s3.unfinished()).toEqual([]);
  });
});
