/** The page of one run: what is known of it, its console as it grows, its artifacts. */
import type { Artifact } from '../../job/artifact.ts';
import type { Run } from '../../job/run.ts';
import { type Html, heading, html } from './html.ts';

export function runPage(run: Run, artifacts: Artifact[]): Html {
  const how = run.outcome ?? run.state;
  const facts: [string, Html | string][] = [
    ['State', html`<span class="${how}">${how}</span>${run.reason === null ? '' : ` – ${run.reason}`}`],
    ['Job', run.job ?? 'ad hoc'],
    ['Platform', run.platform],
    ['Worker', run.worker ?? '–'],
    ['Trigger', run.trigger],
    ['Created', run.createdAt],
    ['Started', run.startedAt ?? '–'],
    ['Finished', run.finishedAt ?? '–'],
    ['Attempt', String(run.attempt)],
  ];
  const files = artifacts.map((artifact) => {
    const path = artifact.path.split('/').map(encodeURIComponent).join('/');
    const note =
      artifact.input === null ? (artifact.sameAs === null ? '' : `same as input ${artifact.sameAs}`) : `input, ${artifact.input}`;
    return html`<tr><td><a href="/api/v1/runs/${run.id}/artifacts/${path}" download>${artifact.path}</a></td><td>${artifact.bytes}</td><td class="mono">${artifact.sha256.slice(0, 16)}…</td><td>${note}</td></tr>`;
  });
  return html`${heading()}
<h1>Run <code>${run.id}</code></h1>
<table>${facts.map(([name, value]) => html`<tr><th>${name}</th><td>${value}</td></tr>`)}</table>
${run.attempts.length === 0 ? '' : attemptsTable(run)}
<h2>Artifacts</h2>${files.length === 0 ? html`<p class="dim">None${run.state === 'finished' ? '' : ' yet'}.</p>` : html`<table><tr><th>Path</th><th>Bytes</th><th>SHA-256</th><th></th></tr>${files}</table>`}
<h2>Console</h2><pre id="log" data-run="${run.id}" data-state="${run.state}"></pre><p id="end" class="dim"></p>`;
}

function attemptsTable({ id, attempts }: Run): Html {
  const rows = attempts.map(({ number, worker, startedAt, finishedAt, outcome, signal, exitCode, killed }) => {
    const end = outcome === null ? 'not yet' : `${outcome}${signal === null ? '' : ` ${signal}`}${exitCode === null ? '' : ` ${exitCode}`}`;
    const left = killed.map((one) => `${one.pid} ${one.command}`).join(', ');
    return html`<tr><td><a href="/api/v1/runs/${id}/log?attempt=${number}">${number}</a></td><td>${worker}</td><td>${startedAt}</td><td>${finishedAt ?? '–'}</td><td>${end}</td><td>${left}</td></tr>`;
  });
  return html`<h2>Attempts</h2><table><tr><th>Log</th><th>Worker</th><th>Started</th><th>Finished</th><th>End</th><th>Killed</th></tr>${rows}</table>`;
}

/**
 * Follows the log; lines are text, never HTML. A lost connection is made anew and shows all again: by itself EventSource would come back with the
 * number of a line, which may be one of an earlier attempt, and not at all after an answer that is an error.
 */
export const RUN_SCRIPT = `
const log = document.getElementById('log');
const end = document.getElementById('end');
const LINES_MAX = 20000;
let waiting = [];
function show() {
  const atBottom = window.innerHeight + window.scrollY >= document.body.offsetHeight - 40;
  const some = document.createDocumentFragment();
  for (const line of waiting) {
    const span = document.createElement('span');
    span.className = line.source || 'builder';
    span.textContent = (line.text === undefined ? told(line) : line.text.replace(/\\u001b\\[[0-9;?]*[A-Za-z]/g, '')) + (line.continued ? '' : '\\n');
    some.appendChild(span);
  }
  waiting = [];
  log.appendChild(some);
  while (log.childNodes.length > LINES_MAX) log.removeChild(log.firstChild);
  if (atBottom && log.dataset.state !== 'finished') window.scrollTo(0, document.body.scrollHeight);
}
function told(record) {
  if (record.cut) return '… lines ' + record.cut.from + ' to ' + record.cut.to + ' were cut';
  if (record.gap) return '… lines ' + record.gap.from + ' to ' + record.gap.to + ' are missing: ' + record.gap.reason;
  return '… ' + JSON.stringify(record);
}
function take(data) {
  if (waiting.length === 0) requestAnimationFrame(show);
  waiting.push(JSON.parse(data));
}
function follow() {
  const events = new EventSource('/api/v1/runs/' + log.dataset.run + '/log?follow=1');
  events.onopen = () => {
    waiting = [];
    log.textContent = '';
    end.textContent = '';
  };
  events.onmessage = (event) => take(event.data);
  events.onerror = () => {
    events.close();
    end.textContent = 'connection lost; trying again';
    setTimeout(follow, 3000);
  };
  events.addEventListener('end', (event) => {
    events.close();
    const said = JSON.parse(event.data).end;
    end.textContent = said.outcome + ', ' + said.lines + ' lines';
    if (log.dataset.state !== 'finished') setTimeout(() => location.reload(), 500);
  });
}
follow();
`;
