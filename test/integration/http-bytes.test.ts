import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { writeManifest } from '../../src/artifacts/manifest.ts';
import type { Artifact, Manifest } from '../../src/job/artifact.ts';
import { limits } from '../../src/job/limits.ts';
import type { RunResult } from '../../src/job/run.ts';
import { sha256Of } from '../support/contents.ts';
import { type Asking, ask } from '../support/http.ts';
import { asksWhetherPeerLives } from '../support/keep-alive.ts';
import { type Attempt, beginAttempt, startServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});

afterAll(() => server.stop());

const api = (path: string, o: Asking = {}) => ask(server, `/api/v1${path}`, o);
const post = (path: string, body: object = {}, headers: Record<string, string> = {}) => api(path, { method: 'POST', body, headers });
const RUN = { platform: 'test', script: 'true' };

function manifestOf({ spec, claim }: Attempt, result: RunResult, artifacts: Artifact[]): Manifest {
  const { id, job, platform, createdAt, script, inputs } = spec;
  const of = { run: id, attempt: 1, claim, worker: 'w', job, platform, createdAt, script, inputs, startedAt: createdAt };
  const { finishedAt, outcome, exitCode, signal, reason, log } = result;
  return { version: 1, ...of, finishedAt, outcome, exitCode, signal, reason, log, artifacts };
}

describe('bytes', () => {
  it('of an input are stored once per content, checked, and a broken upload leaves nothing', async () => {
    const content = randomBytes(300_000);
    const sha256 = sha256Of(content);
    const send = (headers: Record<string, string> = {}) => api('/inputs', { method: 'PUT', body: content, headers });
    expect((await api(`/inputs/${sha256}`, { method: 'HEAD' })).status).toBe(404);
    expect(await send({ 'x-content-sha256': sha256Of('other') })).toMatchObject({ status: 422 });
    expect(await send({ 'x-content-sha256': 'x' })).toMatchObject({ status: 422 });
    expect(await send()).toMatchObject({ status: 201, json: { sha256, bytes: content.length } });
    expect((await send({ 'x-content-sha256': sha256 })).status).toBe(200);
    expect((await api(`/inputs/${sha256}`, { method: 'HEAD' })).status).toBe(200);
    expect((await api('/inputs', { method: 'PUT' })).json).toEqual({ sha256: sha256Of(''), bytes: 0 });
    const headers = { authorization: `Bearer ${server.token}`, 'content-length': 1_000_000, 'x-content-sha256': sha256Of('never') };
    const broken = request(`${server.url}/api/v1/inputs`, { method: 'PUT', headers, agent: false });
    broken.on('error', () => undefined).write(content);
    const incoming = () => readdirSync(`${server.storePath}/incoming`, { recursive: true });
    await until(() => incoming().length > 0, 'the upload to begin');
    // Nothing else would ever tell of a producer that has lost its power.
    const asks = () => asksWhetherPeerLives(Number(new URL(server.url).port), broken.socket?.localPort ?? 0);
    await until(asks, 'the kernel to have set out to ask whether the producer lives');
    broken.destroy();
    await until(() => incoming().length === 0, 'the half upload to be gone');
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('builder-input-'))).toEqual([]);
  });

  it('of an artifact come whole or in part, inert, with their digest as ETag', async () => {
    const { id } = (await post('/runs', RUN)).json;
    const attempt = await beginAttempt(server, id);
    const content = Buffer.from('0123456789');
    const sha256 = sha256Of(content);
    await server.store.putBlob({ sha256, bytes: 10, open: () => Readable.from([content]) });
    const empty = { path: 'empty', bytes: 0, mode: 0o644, sha256: sha256Of(''), input: null, sameAs: null };
    const artifacts = [{ ...empty, path: "dir/ä (1)'#.html", bytes: 10, sha256 }, empty];
    expect((await api(`/runs/${id}/artifacts`)).json).toEqual({ artifacts: [] });
    const result = await attempt.end({ artifactCount: 2 });
    await writeManifest(server.store, manifestOf(attempt, result, artifacts));
    expect((await api(`/runs/${id}/artifacts`)).json).toEqual({ artifacts });

    const etag = `"${sha256}"`;
    const get = (headers: Record<string, string> = {}, method = 'GET') =>
      api(`/runs/${id}/artifacts/dir/${encodeURIComponent("ä (1)'#.html")}`, { headers, method });
    expect(await get()).toMatchObject({
      status: 200,
      text: '0123456789',
      headers: {
        etag,
        'content-length': '10',
        'content-type': 'application/octet-stream',
        'content-disposition': "attachment; filename*=UTF-8''%C3%A4%20%281%29%27%23.html",
        'x-content-type-options': 'nosniff',
        'content-security-policy': expect.stringContaining('sandbox'),
      },
    });
    expect(await get({}, 'HEAD')).toMatchObject({ status: 200, text: '', headers: { etag, 'content-length': '10' } });
    const parts: [string, number, string, string | undefined][] = [
      ['bytes=2-4', 206, '234', 'bytes 2-4/10'],
      ['bytes=7-', 206, '789', 'bytes 7-9/10'],
      ['bytes=-2', 206, '89', 'bytes 8-9/10'],
      ['bytes=5-99', 206, '56789', 'bytes 5-9/10'],
      ['bytes=-99', 206, '0123456789', 'bytes 0-9/10'],
      ['bytes=0-1,4-5', 200, '0123456789', undefined],
      ['bytes=4-2', 200, '0123456789', undefined],
      ['lines=1-2', 200, '0123456789', undefined],
    ];
    for (const [range, status, text, part] of parts) {
      const answer = await get({ range });
      expect([range, answer.status, answer.text, answer.headers['content-range']]).toEqual([range, status, text, part]);
    }
    expect(await get({ range: 'bytes=10-' })).toMatchObject({ status: 416, headers: { 'content-range': 'bytes */10' } });
    expect((await get({ range: 'bytes=2-4', 'if-range': '"other"' })).status).toBe(200);
    for (const known of [etag, `W/${etag}`, `"a", ${etag}`, '*']) expect((await get({ 'if-none-match': known })).status).toBe(304);
    expect(await api(`/runs/${id}/artifacts/empty`)).toMatchObject({ status: 200, text: '', headers: { 'content-length': '0' } });
    for (const path of ['none', 'dir', '../empty', 'dir/..%2Fempty']) expect((await api(`/runs/${id}/artifacts/${path}`)).status).toBe(404);
  });

  it('of thousands of artifacts cost two questions to Redis each, and none to the store but for themselves', async () => {
    const { id } = (await post('/runs', RUN)).json;
    const attempt = await beginAttempt(server, id);
    const content = Buffer.from('small');
    const sha256 = sha256Of(content);
    await server.store.putBlob({ sha256, bytes: 5, open: () => Readable.from([content]) });
    const artifacts = [{ path: 'small', bytes: 5, mode: 0o644, sha256, input: null, sameAs: null }];
    const result = await attempt.end({ artifactCount: 1 });
    await writeManifest(server.store, manifestOf(attempt, result, artifacts));
    const get = () => api(`/runs/${id}/artifacts/small`);
    expect(await get()).toMatchObject({ status: 200, text: 'small' });
    await server.queues.redis.config('RESETSTAT');
    const read = jest.spyOn(server.store, 'getDocument');
    for (let n = 0; n < 5; n += 1) expect((await get()).text).toBe('small');
    expect(read).not.toHaveBeenCalled();
    read.mockRestore();
    const stats = await server.queues.redis.info('commandstats');
    const calls = (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
    expect({ exists: calls('exists'), hget: calls('hget'), hgetall: calls('hgetall') }).toEqual({ exists: 5, hget: 5, hgetall: 0 });
  });

  it.each([9, limits.wholeFileBytesMax + 9])(
    'of an artifact of %d bytes are refused at once where the store has more or fewer',
    async (bytes) => {
      const { id } = (await post('/runs', RUN)).json;
      const attempt = await beginAttempt(server, id);
      const artifacts: Artifact[] = [];
      for (const more of [-1, 1]) {
        const content = randomBytes(bytes + more);
        const sha256 = sha256Of(content);
        await server.store.putBlob({ sha256, bytes: content.length, open: () => Readable.from([content]) });
        artifacts.push({ path: `${more}`, bytes, mode: 0o644, sha256, input: null, sameAs: null });
      }
      const result = await attempt.end({ artifactCount: artifacts.length });
      await writeManifest(server.store, manifestOf(attempt, result, artifacts));
      for (const { path, sha256 } of artifacts) {
        const { json, headers } = await api(`/runs/${id}/artifacts/${path}`);
        expect(json).toMatchObject({ status: 500, code: 'damaged', detail: expect.stringContaining(sha256) });
        expect(headers.etag).toBeUndefined();
      }
    },
  );

  it('of small artifacts come together, by their positions in the list', async () => {
    const { id } = (await post('/runs', RUN)).json;
    const attempt = await beginAttempt(server, id);
    const put = async (path: string, content: Buffer, bytes = content.length): Promise<Artifact> => {
      const sha256 = sha256Of(content);
      await server.store.putBlob({ sha256, bytes: content.length, open: () => Readable.from([content]) });
      return { path, bytes, mode: 0o644, sha256, input: null, sameAs: null };
    };
    const small = await Promise.all(['one', '', 'three'].map((text) => put(`of ${text}`, Buffer.from(text))));
    const large = await put('large', randomBytes(limits.wholeFileBytesMax));
    const gone = { ...large, path: 'gone', bytes: 1, sha256: sha256Of('gone') };
    const many = Array.from({ length: limits.filesTogetherMax + 1 }, (_, n) => ({ ...gone, path: `many/${n}`, bytes: 0 }));
    const artifacts = [...small, large, gone, await put('longer', Buffer.from('longer'), 5), ...many];
    const result = await attempt.end({ artifactCount: artifacts.length });
    await writeManifest(server.store, manifestOf(attempt, result, artifacts));
    const get = (contents: string, more = '') => api(`/runs/${id}/artifacts?contents=${contents}${more}`);
    expect(await get('0-2')).toMatchObject({
      status: 200,
      text: 'onethree',
      headers: { 'content-length': '8', 'content-type': 'application/octet-stream', 'x-content-type-options': 'nosniff' },
    });
    expect(await get('2-2', '&attempt=1')).toMatchObject({ status: 200, text: 'three' });
    expect((await get('3-3')).status).toBe(200);
    expect((await get('3-4')).json).toMatchObject({ status: 422, code: 'invalid-value' });
    expect((await get('4-4')).json).toMatchObject({ status: 404, code: 'not-found' });
    expect((await get('5-5')).json).toMatchObject({ status: 500, code: 'damaged' });
    const last = artifacts.length - 1;
    for (const row of [`6-${last}`, `${last}-${last + 1}`, '2-1', '2-0', '-1', '1-', 'x', '1-2-3']) {
      expect([row, (await get(row)).json]).toEqual([row, expect.objectContaining({ status: 422 })]);
    }
    expect((await get('0-0', '&attempt=2')).status).toBe(422);
    expect((await get('2-1')).json.detail).toContain(`expected FIRST-LAST within a list of ${artifacts.length}`);

    // As from a store that gives streams alone.
    const { getWholeBlob } = server.store;
    delete server.store.getWholeBlob;
    expect(await get('0-2')).toMatchObject({ status: 200, text: 'onethree' });
    expect((await get('4-4')).status).toBe(404);
    expect((await get('5-5')).status).toBe(500);
    Object.assign(server.store, { getWholeBlob });
  });
});
