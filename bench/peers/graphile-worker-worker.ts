/** The worker of the peer graphile-worker + execa: node graphile-worker-worker.js CONNECTION CONCURRENCY */
import { execa } from 'execa';
import { Logger, run } from 'graphile-worker';

const [connectionString = '', concurrency = '1'] = process.argv.slice(2);

const runner = await run({
  connectionString,
  concurrency: Number(concurrency),
  noHandleSignals: true,
  // As for every contender: only what goes wrong is worth a line.
  logger: new Logger(() => (level, message) => void (level === 'error' && process.stderr.write(`graphile-worker: ${message}\n`))),
  taskList: {
    script: async (payload) => void (await execa('/bin/sh', ['-c', (payload as { script: string }).script])),
  },
});
process.send?.('ready');
process.on('SIGTERM', () => void runner.stop().then(() => process.exit(0)));
