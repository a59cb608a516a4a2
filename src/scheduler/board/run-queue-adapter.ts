/** A platform's queue as Bull Board shows it: its jobs are runs, with their console and a link to their page. */
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { limits } from '../../job/limits.ts';
import { type LogEntry, parseLogEntry, textOf } from '../../job/log-entry.ts';
import { readLog } from '../../logs/reader.ts';
import { type LogId, lastLine } from '../../logs/stream.ts';
import { platformQueue } from '../../queue/queues.ts';
import { readRecord } from '../../queue/records.ts';
import type { ServerContext } from '../server-context.ts';

export class RunQueueAdapter extends BullMQAdapter {
  private readonly context: ServerContext;

  constructor(context: ServerContext, platform: string) {
    super(platformQueue(context.queues, platform), {
      displayName: platform,
      description: `Runs for ${platform}`,
      externalJobUrl: (job) => ({ displayText: 'Run', href: `/runs/${encodeURIComponent(String(job.id))}` }),
    });
    this.context = context;
  }

  /** The last lines of the run's console; the page of the run has all of it. */
  override async getJobLogs(id: string): Promise<string[]> {
    const { logs, stopping } = this.context;
    const log = await newestLog(this.context, id);
    if (log === null) return [];
    const last = await lastLineOf(this.context, log);
    const from = Math.max(1, last - limits.boardLogLines + 1);
    const lines: string[] = [];
    for await (const chunk of readLog(logs, { log, from, follow: false, signal: stopping })) {
      for (const json of chunk.toString().split('\n')) if (json !== '') lines.push(...shown(parseLogEntry(json)));
    }
    const all = `all of it: /runs/${id}`;
    return from > 1 ? [`… ${from - 1} lines before; ${all}`, ...lines] : [...lines, all];
  }
}

async function newestLog(context: ServerContext, id: string): Promise<LogId | null> {
  const record = await readRecord(context.queues.redis, id);
  const last = record?.attempts.at(-1);
  return last === undefined ? null : { run: id, attempt: last.number, claim: last.claim };
}

async function lastLineOf(context: ServerContext, log: LogId): Promise<number> {
  const record = await readRecord(context.queues.redis, log.run);
  return record?.result?.log.lines ?? (await lastLine(context.queues.redis, log));
}

function shown(entry: LogEntry): string[] {
  if ('line' in entry) return [textOf(entry).replace(/\n$/, '')];
  if ('gap' in entry) return [`… lines ${entry.gap.from} to ${entry.gap.to} are missing: ${entry.gap.reason}`];
  if ('cut' in entry) return [`… lines ${entry.cut.from} to ${entry.cut.to} were cut`];
  return [];
}
