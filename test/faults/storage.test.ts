import { createHash } from 'node:crypto';
import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type Pool, startPool } from '../support/pool.ts';
import { type SmallDisk, smallDisk } from '../support/small-disk.ts';
import { until } from '../support/until.ts';

const MIB = 1024 * 1024;
const disks = { store: smallDisk(24), worker: smallDisk(3) };
const onDisks = disks.store !== null && disks.worker !== null ? describe : describe.skip;

afterAll(() => {
  for (const disk of Object.values(disks)) disk?.remove();
});

async function expectStored(pool: Pool, id: string): Promise<void> {
  const run = await pool.finished(id);
  expect(run).toMatchObject({ outcome: 'succeeded', attempt: 1, artifactCount: 1, log: { lines: 1, missing: 0 } });
  const [artifact] = (await pool.api(`/runs/${id}/artifacts`)).json.artifacts;
  const { body } = await pool.api(`/runs/${id}/artifacts/data`);
  expect([body.length, createHash('sha256').update(body).digest('hex')]).toEqual([2 * MIB, artifact.sha256]);
  expect(await pool.log(id)).toBe('made\n');
}

/** Two mebibytes that no other run has, once a file is there. */
const MAKES_DATA = ': > "$GO.ready"; until [ -e "$GO" ]; do sleep 0.05; done; head -c 2097152 /dev/urandom > data; echo made';

describe('the store', () => {
  it('that is away when a script ends: the run waits, and is stored when the store is back', async () => {
    const pool = await startPool();
    try {
      const go = `${pool.folder.path}/go`;
      const id = await pool.submit(MAKES_DATA, { env: { GO: go } });
      await until(() => existsSync(`${go}.ready`), 'the script to run');
      renameSync(pool.storePath, `${pool.storePath}-away`);
      writeFileSync(go, '');
      await until(() => pool.workers.get('one')?.stderr.includes('refused; trying again'), 'the worker to say so');
      expect((await pool.run(id)).state).toBe('running');
      expect((await pool.api('/../../readyz')).status).not.toBe(200);
      rmSync(pool.storePath, { recursive: true, force: true });
      renameSync(`${pool.storePath}-away`, pool.storePath);
      await expectStored(pool, id);
    } finally {
      await pool.stop();
    }
  });

  it('that is away when a run begins: it is tried again, not refused as if its script had never been', async () => {
    const pool = await startPool();
    try {
      const queued = await pool.submit('echo first');
      await pool.finished(queued);
      const worker = pool.workers.get('one');
      worker?.child.kill('SIGSTOP');
      const id = await pool.submit('echo begun');
      renameSync(pool.storePath, `${pool.storePath}-away`);
      worker?.child.kill('SIGCONT');
      await until(() => worker?.stderr.includes('could not be prepared'), 'the worker to say so');
      renameSync(`${pool.storePath}-away`, pool.storePath);
      expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded' });
      expect(await pool.log(id)).toContain('begun\n');
    } finally {
      await pool.stop();
    }
  });
});

describe('a log', () => {
  it('that its own script spoils on the disk of the worker: the run ends as lost, with the reason, and the worker goes on', async () => {
    const pool = await startPool();
    try {
      const run = await pool.finished(
        await pool.submit('echo kept > kept; echo said; until [ -s ../log.ndjson ]; do sleep 0.01; done; : > ../log.ndjson'),
      );
      expect(run).toMatchObject({
        outcome: 'lost',
        artifactCount: 1,
        reason: expect.stringMatching(/^not-stored: ended as succeeded, .*log/),
      });
      expect(await pool.finished(await pool.submit('echo fine'))).toMatchObject({ outcome: 'succeeded' });
    } finally {
      await pool.stop();
    }
  });
});

onDisks('a full disk', () => {
  let pool: Pool;

  beforeAll(async () => {
    pool = await startPool({ storePath: `${(disks.store as SmallDisk).path}/store`, workers: [] });
    await pool.startWorker('one');
    await pool.startWorker('small', { workDir: `${(disks.worker as SmallDisk).path}/work`, platforms: ['small'] });
  });

  afterAll(() => pool.stop());

  it('under the store: the run waits, and is stored once there is room; no part of a file stays', async () => {
    const go = `${pool.folder.path}/go`;
    const id = await pool.submit(MAKES_DATA, { env: { GO: go } });
    await until(() => existsSync(`${go}.ready`), 'the script to run');
    const filler = `${disks.store?.path}/filler`;
    writeFileSync(filler, Buffer.alloc(23 * MIB));
    writeFileSync(go, '');
    await until(() => pool.workers.get('one')?.stderr.includes('refused; trying again'), 'the worker to say so');
    expect((await pool.run(id)).state).toBe('running');
    rmSync(filler);
    await expectStored(pool, id);
    expect(readdirSync(`${pool.storePath}/incoming`)).toEqual([]);
  });

  it('of the worker, filled by what the script says: the run ends with a reason, its artifacts are kept, the worker lives', async () => {
    const script = 'echo kept > kept; seq 1 5000000';
    const id = await pool.submit(script, { platform: 'small' });
    const run = await pool.finished(id);
    expect(run).toMatchObject({
      outcome: 'lost',
      attempt: 1,
      artifactCount: 1,
      reason: expect.stringMatching(/^disk-full: .*worker small/),
    });
    const text = await pool.log(id);
    expect(text.startsWith('1\n2\n3\n')).toBe(true);
    expect(run.log).toMatchObject({ bytes: text.length, sha256: createHash('sha256').update(text).digest('hex') });
    const next = await pool.finished(await pool.submit('echo fine', { platform: 'small' }));
    expect(next).toMatchObject({ outcome: 'succeeded', worker: 'small' });
  });

  it('of the worker, filled by the files of the script: the script sees it, and ends as it wants', async () => {
    const script = 'if ! head -c 9000000 /dev/zero > big 2> /dev/null; then rm big; echo no room; exit 9; fi';
    const run = await pool.finished(await pool.submit(script, { platform: 'small' }));
    expect(run).toMatchObject({ outcome: 'failed', exitCode: 9 });
    expect(await pool.log(run.id)).toContain('no room\n');
  });

  it('that store and worker share, filled by the files of a script: the run is lost with a reason, its log is kept, the next one runs', async () => {
    await pool.startWorker('sharing', { workDir: `${disks.store?.path}/work`, platforms: ['sharing'] });
    const script = 'echo said; until [ -s ../log.ndjson ]; do sleep 0.01; done; dd if=/dev/zero of=big bs=1M 2>/dev/null';
    const run = await pool.finished(await pool.submit(script, { platform: 'sharing' }));
    expect(run).toMatchObject({ outcome: 'lost', reason: expect.stringMatching(/^not-stored: ended as failed/), artifactCount: 0 });
    expect(await pool.log(run.id)).toBe('said\n');
    expect(await pool.finished(await pool.submit('echo fine', { platform: 'sharing' }))).toMatchObject({ outcome: 'succeeded' });
  });

  it('of the worker for a moment while a run is prepared: it is tried again', async () => {
    const filler = `${disks.worker?.path}/filler`;
    writeFileSync(filler, Buffer.alloc(2 * MIB));
    for (let room = true; room; ) {
      try {
        writeFileSync(filler, Buffer.alloc(4096), { flag: 'a' });
      } catch {
        room = false;
      }
    }
    const id = await pool.submit(`echo ${'x'.repeat(8_000)} | wc -c`, { platform: 'small' });
    await until(() => pool.workers.get('small')?.stderr.includes('could not be prepared'), 'the worker to say so');
    rmSync(filler);
    expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded' });
    expect(await pool.log(id)).toContain('8001\n');
  });

  it('of the worker, filled by a run of one that was killed: the next one makes room, keeps the log, and takes runs', async () => {
    const place = { workDir: `${disks.worker?.path}/filled`, platforms: ['filled'] };
    const filled = `${pool.folder.path}/filled`;
    const worker = await pool.startWorker('filled', place);
    const go = `${pool.folder.path}/go-filled`;
    const fills = 'until [ -e "$GO" ]; do sleep 0.05; done; cat /dev/zero > big 2> /dev/null || true; : > "$FILLED"; sleep 300';
    const script = `echo said; if [ $BUILDER_ATTEMPT = 1 ]; then ${fills}; fi`;
    const id = await pool.submit(script, { platform: 'filled', env: { FILLED: filled, GO: go } });
    // What comes when there is no room any more has none in the log either.
    await until(async () => (await pool.log(id)).includes('said'), 'the first line');
    writeFileSync(go, '');
    await until(() => existsSync(filled), 'the disk to be full');
    worker.child.kill('SIGKILL');
    await worker.ended;
    const next = await pool.startWorker('filled', place);
    expect(next.stderr).toMatch(/removed of a run of a dead worker, for room to start/);
    expect(await pool.finished(id)).toMatchObject({ outcome: 'succeeded', attempt: 2, worker: 'filled' });
    await until(() => readdirSync(place.workDir).join() === 'filled', 'what was left to be seen to');
    expect((await pool.log(id, '?attempt=1')).split('\n')).toEqual(expect.arrayContaining(['said', expect.stringMatching(/is gone/)]));
    expect(await pool.log(id)).toContain('said\n');
  });
});
