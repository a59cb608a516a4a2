/** `/metrics`: what there is to do and who does it, in the text format of Prometheus. */
import type { FastifyInstance } from 'fastify';
import { getInfo } from '../../queue/view.ts';
import { version } from '../../service/version.ts';
import type { ServerContext } from '../server-context.ts';

interface Metric {
  name: string;
  help: string;
  values: { labels?: Record<string, string>; value: number }[];
}

export function metricRoutes(app: FastifyInstance, { queues }: ServerContext): void {
  app.get('/metrics', async (_, reply) => {
    const { queues: byPlatform, running, workers, droppedPlatforms, schedule } = await getInfo(queues);
    const platforms = Object.entries(byPlatform);
    const metrics: Metric[] = [
      { name: 'builder_info', help: 'Version of this server.', values: [{ labels: { version: version() }, value: 1 }] },
      gauge(
        'builder_runs_waiting',
        'Runs that wait for a worker.',
        platforms.map(([platform, queue]) => [platform, queue.waiting]),
      ),
      gauge(
        'builder_runs_delayed',
        'Runs that wait for a moment.',
        platforms.map(([platform, queue]) => [platform, queue.delayed]),
      ),
      gauge(
        'builder_runs_running',
        'Runs that a worker executes.',
        platforms.map(([platform]) => [platform, running.filter((run) => run.platform === platform).length]),
      ),
      gauge(
        'builder_platform_dropped',
        'Platforms that take no runs.',
        platforms.map(([platform]) => [platform, droppedPlatforms.includes(platform) ? 1 : 0]),
      ),
      { name: 'builder_workers', help: 'Workers that are alive.', values: [{ value: workers.length }] },
      {
        name: 'builder_worker_slots',
        help: 'Runs that the workers take at a time.',
        values: [{ value: workers.reduce((sum, one) => sum + one.concurrency, 0) }],
      },
      { name: 'builder_jobs', help: 'Jobs that are defined.', values: [{ value: schedule.length }] },
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
