/** MinIO, or a fork with the same command and variables: from the PATH, or as a container. */
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { freePorts } from './free-ports.ts';
import { killPrograms, onPath, startProgram } from './programs.ts';
import type { S3Server } from './s3-server.ts';
import { tempFolder } from './temp.ts';
import { until } from './until.ts';

const IMAGE = 'quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z';
const KEYS = { region: 'us-east-1', accessKey: 'testkey', secretKey: 'testsecret' };
const VARIABLES = { MINIO_ROOT_USER: KEYS.accessKey, MINIO_ROOT_PASSWORD: KEYS.secretKey };
const HEALTH = '/minio/health/live';

export async function startMinioProgram(): Promise<S3Server | null> {
  if (!onPath('minio')) return null;
  const folder = tempFolder();
  const [port = 0] = await freePorts(1);
  const endpoint = `http://127.0.0.1:${port}`;
  const args = ['server', join(folder.path, 'data'), '--address', `127.0.0.1:${port}`, '--console-address', '127.0.0.1:0'];
  const child = startProgram('minio', args, { env: { ...process.env, ...VARIABLES }, logFile: join(folder.path, 'minio.log') });
  const stop = async (): Promise<void> => {
    await killPrograms([child]);
    folder.remove();
  };
  try {
    await until(() => answers(`${endpoint}${HEALTH}`), 'minio to answer');
  } catch (cause) {
    await stop();
    throw cause;
  }
  return { name: 'minio of the PATH', endpoint, ...KEYS, stop };
}

export async function startMinioContainer(): Promise<S3Server | null> {
  if (!(await engineAnswers())) return null;
  const image = process.env.BUILDER_TEST_S3_IMAGE || IMAGE;
  // Loaded only where an engine answers: it takes longer than all the other ways.
  const { GenericContainer, Wait } = await import('testcontainers');
  const container = await new GenericContainer(image)
    .withEnvironment(VARIABLES)
    .withCommand(['server', '/data'])
    .withExposedPorts(9000)
    .withWaitStrategy(Wait.forHttp(HEALTH, 9000))
    .withStartupTimeout(120_000)
    .start();
  return {
    name: `a container of ${image}`,
    endpoint: `http://${container.getHost()}:${container.getMappedPort(9000)}`,
    ...KEYS,
    stop: async () => {
      await container.stop();
    },
  };
}

/** A short question; the library's own search for an engine takes long where there is none. */
async function engineAnswers(): Promise<boolean> {
  const host = process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock';
  if (host.startsWith('unix://')) {
    const socketPath = host.slice('unix://'.length);
    return existsSync(socketPath) && answers({ socketPath, path: '/_ping' });
  }
  // Over TLS the library must find its certificates; whether it can, only it knows.
  return process.env.DOCKER_TLS_VERIFY ? true : answers(`${host.replace(/^tcp:/, 'http:')}/_ping`);
}

function answers(target: string | { socketPath: string; path: string }): Promise<boolean> {
  return new Promise((resolve) => {
    const sent = request(target, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    sent.setTimeout(2_000, () => sent.destroy());
    sent.on('error', () => resolve(false));
    sent.on('close', () => resolve(false));
    sent.end();
  });
}
