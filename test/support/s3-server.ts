/** A real S3-compatible server for tests: a given one, MinIO from the PATH or as a container, or Ceph's object gateway. */
import { startCeph } from './s3-ceph.ts';
import { startMinioContainer, startMinioProgram } from './s3-minio.ts';

export interface S3Server {
  /** What serves, for people. */
  name: string;
  endpoint: string;
  region: string;
  accessKey: string;
  secretKey: string;
  stop(): Promise<void>;
}

/** Each resolves with null where this way is not open here, and rejects where it should have worked and did not. */
const WAYS: [string, () => Promise<S3Server | null>][] = [
  ['BUILDER_TEST_S3_ENDPOINT', async () => givenServer()],
  ['minio on the PATH', startMinioProgram],
  ['a MinIO container', startMinioContainer],
  ["Ceph's object gateway", startCeph],
];

/** The first that can be had, named on one line; null, with a line that says so, where none can. */
export async function startS3Server(): Promise<S3Server | null> {
  for (const [way, start] of WAYS) {
    try {
      const server = await start();
      if (server === null) continue;
      say(`${server.name} at ${server.endpoint}`);
      return server;
    } catch (cause) {
      say(`${way} could not be used: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`);
    }
  }
  say('none can be had here (no BUILDER_TEST_S3_ENDPOINT, no minio, no container engine, no packages): the S3 tests are skipped');
  return null;
}

function givenServer(): S3Server | null {
  const endpoint = process.env.BUILDER_TEST_S3_ENDPOINT;
  if (endpoint === undefined || endpoint === '') return null;
  return {
    name: 'the server of BUILDER_TEST_S3_ENDPOINT',
    endpoint,
    region: process.env.BUILDER_TEST_S3_REGION || 'us-east-1',
    accessKey: process.env.BUILDER_TEST_S3_ACCESS_KEY ?? '',
    secretKey: process.env.BUILDER_TEST_S3_SECRET_KEY ?? '',
    stop: async () => undefined,
  };
}

/** Past the test runner's console, which would add a stack to every line. */
function say(line: string): void {
  process.stderr.write(`S3 server of the tests: ${line}\n`);
}
