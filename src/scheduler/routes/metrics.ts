/** `/metrics`: what there is to do and who does it, in the text format of Prometheus. */
import type { FastifyInstance } from 'fastify';
import { listJobs } from '../../queue/definitions.ts';
import { listPlatforms } from '../../queue/platforms.ts';
import { countRuns } from '../../queue/view.ts';
import { listWorkers } from '../../queue/workers.ts';
import { version } from '../../service/version.ts';
import type { ServerContext } from '../server-context.ts';

interface Metric {
  name: string;
  help: string;
  values: { labels?: Record<string, string>; value: number }[];
}

export function metricRoutes(app: FastifyInstance, { queues }: ServerContext): void {
  app.get('/metrics', async (_, reply) => {
    const [platforms, workers, jobs] = await Promise.all([listPlatforms(queues), listWorkers(queues), listJobs(queues)]);
    const counts = await Promise.all(platforms.map(({ name }) => countRuns(queues, name)));
    const counted = (what: 'waiting' | 'delayed' | 'running'): [string, number][] =>
      platforms.map(({ name }, index) => [name, counts[index]?.[what] ?? 0]);
    const metrics: Metric[] = [
      { name: 'builder_info', help: 'Version of this server.', values: [{ labels: { version: version() }, value: 1 }] },
      gauge('builder_runs_waiting', 'Runs that wait for a worker.', counted('waiting')),
      gauge('builder_runs_delayed', 'Runs that wait for a moment.', counted('delayed')),
      gauge('builder_runs_running', 'Runs that a worker executes.', counted('running')),
      gauge(
        'builder_platform_dropped',
        'Platforms that take no runs.',
        platforms.map(({ name, dropped }) => [name, dropped ? 1 : 0]),
      ),
      { name: 'builder_workers', help: 'Workers that are alive.', values: [{ value: workers.length }] },
      {
        name: 'builder_worker_slots',
        help: 'Runs that the workers take at a time.',
        values: [{ value: workers.reduce((sum, one) => sum + one.concurrency, 0) }],
      },
      { name: 'builder_jobs', help: 'Jobs that are defined.', values: [{ value: jobs.length }] },
      { name: 'process_resident_memory_bytes', help: 'Resident memory of this server.', values: [{ value: process.memoryUsage.rss() }] },
    ];
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(metrics.map(rendered).join(''));
  });
}

function gauge(name: string, help: string, values: [string, number][]): Metric {
  return { name, help, values: values.map(([platform, value]) => ({ labels: { platform }, value })) };
}

function rendered({ name, help, values }: Metric): string {
  const lines = values.map(({ labels, value }) => {
    const pairs = Object.entries(labels ?? {}).map(([key, text]) => `${key}=${JSON.stringify(text)}`);
    return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join('')}`;
}
