/**
 * What an operator waits for: how long a cancellation takes to reach a script and to end its run, and how long it takes from the death of a
 * worker to the run's restart on another one. Real programs on an idle machine: `node bench/latencies.js [CANCELS] [DEATHS]` after `make build`.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const BUILDER = fileURLToPath(new URL('../bin/builder', import.meta.url));
const [cancels = 200, deaths = 12] = process.argv.slice(2).map(Number);

const folder = mkdtempSync(join(tmpdir(), 'builder-bench-'));
const data = join(folder, 'data');
const up = await startUp();
const { server, token } = JSON.parse(readFileSync(join(data, 'client.json'), 'utf8'));
try {
  const reached = [];
  const ended = [];
  for (let count = 0; count < cancels; count += 1) await cancelOne(reached, ended);
  console.table({
    'cancel → the script has SIGTERM, seen by a follower': summary(reached),
    'cancel → the run has ended, seen by a follower': summary(ended),
    'kill -9 of a worker → the first line of the next attempt': summary(await restarts(deaths)),
  });
} finally {
  await end(up);
  rmSync(folder, { recursive: true, force: true });
}

function start(args, env = {}) {
  return spawn(process.execPath, [BUILDER, ...args], {
    cwd: folder,
    env: { PATH: `${process.env.PATH}`, HOME: folder, XDG_CONFIG_HOME: join(folder, 'config'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function startUp() {
  const child = start(['up', '--data', data, '--port', '0', '--platform', 'here', '--concurrency', '4']);
  await says(child.stdout, 'serves');
  return child;
}

function says(stream, text) {
  return new Promise((resolve) => {
    let said = '';
    stream.on('data', (chunk) => {
      said += chunk;
      if (said.includes(text)) resolve();
    });
  });
}

function end(child) {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  child.kill('SIGTERM');
  return ended;
}

async function api(path, body) {
  const answer = await fetch(`${server}/api/v1${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer;
}

/** Lines of a run's log as they come, with when; the end is one of them. */
async function* follow(id) {
  const headers = { authorization: `Bearer ${token}`, accept: 'application/x-ndjson' };
  const answer = await fetch(`${server}/api/v1/runs/${id}/log?follow=1`, { headers });
  let rest = '';
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') yield JSON.parse(line);
  }
}

async function cancelOne(reached, ended) {
  const script = "trap 'echo told; exit 1' TERM; echo begun; while :; do sleep 0.01; done";
  const { id } = await (await api('/runs', { platform: 'here', script })).json();
  let askedAt = 0;
  for await (const { text, end } of follow(id)) {
    if (text === 'begun') {
      askedAt = performance.now();
      await api(`/runs/${id}/cancel`, {});
    }
    if (text === 'told') reached.push(performance.now() - askedAt);
    if (end !== undefined) ended.push(performance.now() - askedAt);
  }
}

/** Two workers of one platform; whichever has the run is killed. */
async function restarts(times) {
  const tookMs = [];
  const env = {
    BUILDER_REDIS_URL: `unix:${join(data, 'redis.sock')}`,
    BUILDER_STORE: `file://${join(data, 'store')}`,
    BUILDER_WORK_DIR: join(folder, 'work'),
  };
  const workers = new Map();
  const startWorker = async (name) => {
    const child = start(['worker', '--platform', 'pool', '--name', name, '--concurrency', '1'], env);
    await says(child.stderr, 'takes runs');
    workers.set(name, child);
  };
  await Promise.all(['a', 'b'].map(startWorker));
  for (let count = 0; count < times; count += 1) {
    const script = 'echo begun; if [ $BUILDER_ATTEMPT = 1 ]; then sleep 600; fi';
    const { id } = await (await api('/runs', { platform: 'pool', script })).json();
    for await (const { text } of follow(id)) if (text === 'begun') break;
    const { worker } = await (await api(`/runs/${id}`)).json();
    const died = new Promise((resolve) => workers.get(worker).once('exit', resolve));
    workers.get(worker).kill('SIGKILL');
    const killedAt = performance.now();
    while ((await (await api(`/runs/${id}`)).json()).attempt === 1) await new Promise((resolve) => setTimeout(resolve, 20));
    for await (const { text } of follow(id)) if (text === 'begun') break;
    tookMs.push(performance.now() - killedAt);
    await died;
    await startWorker(worker);
  }
  await Promise.all([...workers.values()].map(end));
  return tookMs;
}

function summary(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] * 10) / 10;
  return { n: sorted.length, 'p50 ms': at(0.5), 'p99 ms': at(0.99), 'max ms': at(1) };
}
