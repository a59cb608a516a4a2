/** HTML in which everything that came from outside is escaped. */
import { randomBytes } from 'node:crypto';
import type { FastifyReply } from 'fastify';

/** Text that is HTML already. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Value = Html | string | number | null | undefined | Value[];

/** Literal parts as they are, values escaped unless they are Html. */
export function html(parts: TemplateStringsArray, ...values: Value[]): Html {
  return new Html(parts.reduce((text, part, index) => text + rendered(values[index - 1]) + part));
}

export interface Page {
  title: string;
  body: Html;
  /** Runs in the page; the only script that the page's policy lets run. */
  script?: string;
  status?: number;
}

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --dim: #6e7781; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 3rem; }
header { display: flex; gap: 1.25rem; align-items: baseline; border-bottom: 1px solid var(--line); padding-bottom: .5rem; }
header b { font-size: 1.15rem; } header form { margin-left: auto; }
h1 { font-size: 1.3rem; margin: 1.2rem 0 .4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; color: var(--dim); }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
code, pre, .mono { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: #8881; padding: .75rem; overflow-x: auto; white-space: pre-wrap; min-height: 3rem; }
.stderr { color: #9a6700; } .builder { color: var(--dim); font-style: italic; }
.succeeded { color: var(--good); } .failed, .signalled, .timed-out, .lost, .refused { color: var(--bad); } .cancelled, .dim { color: var(--dim); }
input { font: inherit; padding: .35rem; width: 28rem; max-width: 100%; } button { font: inherit; padding: .35rem .9rem; }
@media (prefers-color-scheme: dark) { .stderr { color: #d4a72c; } :root { --good: #3fb950; --bad: #f85149; } }`;

/** Answers with a page that can load nothing and run nothing but what is in it. */
export function sendPage(reply: FastifyReply, page: Page): FastifyReply {
  const nonce = randomBytes(16).toString('base64');
  const policy = [
    "default-src 'none'",
    `style-src 'nonce-${nonce}'`,
    ...(page.script === undefined ? [] : [`script-src 'nonce-${nonce}'`, "connect-src 'self'"]),
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ];
  const script = page.script === undefined ? '' : `<script nonce="${nonce}">${page.script}</script>`;
  return reply
    .status(page.status ?? 200)
    .header('content-security-policy', policy.join('; '))
    .header('cache-control', 'no-store')
    .type('text/html; charset=utf-8')
    .send(
      `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
        `<title>${escaped(page.title)} – builder</title><style nonce="${nonce}">${STYLE}</style></head><body>${page.body.text}${script}</body></html>`,
    );
}

/** What every page of a signed-in person begins with. */
export function heading(): Html {
  return html`<header><b>builder</b><a href="/">Overview</a><a href="/board">Board</a><form method="post" action="/signout"><button>Sign out</button></form></header>`;
}

function rendered(value: Value): string {
  if (value instanceof Html) return value.text;
  if (Array.isArray(value)) return value.map(rendered).join('');
  return value === null || value === undefined ? '' : escaped(String(value));
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
