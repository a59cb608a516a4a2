/** The worker of the peer BullMQ + execa: node bullmq-execa-worker.js SOCKET QUEUE CONCURRENCY */
import { Worker } from 'bullmq';
import { execa } from 'execa';

const [path = '', queue = '', concurrency = '1'] = process.argv.slice(2);

const worker = new Worker(queue, async ({ data }) => (await execa('/bin/sh', ['-c', data.script])).exitCode, {
  connection: { path, maxRetriesPerRequest: null },
  concurrency: Number(concurrency),
});
await worker.waitUntilReady();
process.send?.('ready');
process.on('SIGTERM', () => void worker.close().then(() => process.exit(0)));
