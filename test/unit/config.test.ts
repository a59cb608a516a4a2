import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readWorkerConfig } from '../../src/service/config.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

let temp: TempFolder;

beforeAll(() => {
  temp = tempFolder();
});

afterAll(() => temp.remove());

function fileOf(name: string, content: string): string {
  const path = `${temp.path}/${name}`;
  writeFileSync(path, `${content}\n`);
  return path;
}

describe('a worker that reads its configuration from files', () => {
  test('hides them all from scripts: those of runs’ secrets, and of its own', () => {
    const files = {
      BUILDER_REDIS_URL_FILE: fileOf('redis', 'redis://:hunter2@redis:6379'),
      BUILDER_S3_ACCESS_KEY_FILE: fileOf('access', 'ada'),
      BUILDER_S3_SECRET_KEY_FILE: fileOf('key', 'lovelace'),
      BUILDER_SECRET_TOKEN_FILE: fileOf('token', 'of a run'),
    };
    const config = readWorkerConfig({ BUILDER_STORE: 's3://bucket', BUILDER_S3_ENDPOINT: 'http://minio:9000', ...files });
    expect(config.store).toMatchObject({ accessKey: 'ada', secretKey: 'lovelace' });
    expect([...config.secrets]).toEqual([['TOKEN', 'of a run']]);
    expect([...config.secretFiles].sort()).toEqual(Object.values(files).sort());
  });
});
