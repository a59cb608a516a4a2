/** The first page: what waits, what runs, what is due, who works, what ended last. */
import type { Info } from '../../job/api.ts';
import type { Run } from '../../job/run.ts';
import { type Html, heading, html } from './html.ts';

export function overviewPage(info: Info, recent: Run[]): Html {
  const queues = Object.entries(info.queues);
  const waiting = queues.map(([platform, { waiting: count, delayed }]) => {
    const workers = info.workers.filter((worker) => worker.platforms.includes(platform)).length;
    const note = info.droppedPlatforms.includes(platform)
      ? 'dropped'
      : workers === 0
        ? 'no worker'
        : `${workers} worker${workers === 1 ? '' : 's'}`;
    return html`<tr><td>${platform}</td><td>${count}</td><td>${delayed}</td><td>${note}</td></tr>`;
  });
  const schedule = info.schedule.map(
    (entry) =>
      html`<tr><td>${entry.job}</td><td>${entry.paused ? 'paused' : (entry.next ?? 'never')}</td><td>${entry.period ?? entry.cron ?? entry.every ?? entry.at}${entry.tz === null ? '' : ` (${entry.tz})`}</td></tr>`,
  );
  const workers = info.workers.map(
    (worker) =>
      html`<tr><td>${worker.name}</td><td>${worker.platforms.join(', ')}</td><td>${worker.running} of ${worker.concurrency}</td><td>${worker.sandbox}</td><td>${worker.version}</td></tr>`,
  );
  return html`${heading()}
<h1>Running</h1>${runTable(info.running, 'Nothing runs.')}
<h2>Queues</h2>${table(['Platform', 'Waiting', 'Delayed', ''], waiting, 'No platform is known yet.')}
<h2>Last runs</h2>${runTable(recent, 'Nothing has run yet.')}
<h2>Schedule</h2>${table(['Job', 'Next', 'Schedule'], schedule, 'No job is scheduled.')}
<h2>Workers</h2>${table(['Name', 'Platforms', 'Running', 'Sandbox', 'Version'], workers, 'No worker is here.')}`;
}

function runTable(runs: Run[], none: string): Html {
  const rows = runs.map((run) => {
    const how = run.outcome ?? run.state;
    return html`<tr><td><a class="mono" href="/runs/${run.id}">${run.id.slice(0, 8)}</a></td><td>${run.job ?? 'ad hoc'}</td><td>${run.platform}</td><td class="${how}">${how}</td><td>${run.startedAt ?? run.createdAt}</td><td>${run.worker}</td></tr>`;
  });
  return table(['Run', 'Job', 'Platform', '', 'Since', 'Worker'], rows, none);
}

function table(columns: string[], rows: Html[], none: string): Html {
  if (rows.length === 0) return html`<p class="dim">${none}</p>`;
  return html`<table><tr>${columns.map((column) => html`<th>${column}</th>`)}</tr>${rows}</table>`;
}
