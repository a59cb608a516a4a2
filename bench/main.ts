/**
 * `make bench`, `make bench-full`, `make bench-check`: measures the figures of bench/README.md, prints one table and writes it as JSON.
 *
 *   node dist/bench/main.js [--full] [--only NAME]… [--out FILE] [--check FILE] [--keep FILE]
 *
 * `--check` fails where a ratio is worse than all that the file has of it; `--keep` adds the ratios to that file, whose spreads grow by it (to begin
 * anew: remove it). Exit code 1 for a figure that is void, got worse or lacks what was kept of it, 2 for what cannot be compared, 0 otherwise: a goal that is not met is told in the table.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { collectLessOften } from '../src/service/garbage.ts';
import type { Size } from './figure.ts';
import { figures } from './figures.ts';
import { describeMachine } from './machine.ts';
import { drops, type Kept, keptWith, unlike } from './regression.ts';
import { tableOf } from './report.ts';
import { measureFigure } from './rounds.ts';
import { type Summary, summarize } from './summary.ts';
import { flagsOf } from './support/flags.ts';

// As the worker and the server do, whose code some figures measure in this process, and for whatever stands beside it here.
collectLessOften();
const values = flagsOf({
  full: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true },
  out: { type: 'string' },
  check: { type: 'string' },
  keep: { type: 'string' },
});
const size: Size = values.full ? 'full' : 'short';
const all = figures(size);
const unknown = values.only?.find((name) => all.every((figure) => figure.name !== name));
if (unknown !== undefined) {
  process.stderr.write(`bench: expected --only ${all.map(({ name }) => name).join(', ')}, got ${unknown}\n`);
  process.exit(2);
}
const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);
const machine = describeMachine();
const read = (path: string | undefined): Kept | null =>
  path === undefined || !existsSync(path) ? null : (JSON.parse(readFileSync(path, 'utf8')) as Kept);
const [checked, kept] = [read(values.check), read(values.keep)];
if (values.check !== undefined && checked === null) {
  say(`expected what was kept at ${values.check}, got no file`);
  process.exit(2);
}
for (const one of [checked, kept]) {
  const why = one === null ? null : unlike(one, { size, machine });
  if (why === null) continue;
  say(why);
  process.exit(2);
}
if (values.out !== undefined) mkdirSync(dirname(values.out), { recursive: true });
const beganAtMs = performance.now();
const summary: Summary = { rows: [], verdicts: [] };
for (const figure of all) {
  if (values.only !== undefined && !values.only.includes(figure.name)) continue;
  const begunAtMs = performance.now();
  const { rows, verdicts } = summarize(figure, await measureFigure(figure, say));
  say(`${figure.name}: took ${Math.round((performance.now() - begunAtMs) / 1000)} s`);
  summary.rows.push(...rows);
  summary.verdicts.push(...verdicts);
  // After each: an hour's figures are not lost with the one that is cut short.
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify({ size, machine, ...summary }, null, 2)}\n`);
}
process.stdout.write(`${tableOf(machine, summary)}\n`);
say(`took ${Math.round((performance.now() - beganAtMs) / 1000)} s in all`);
const isFaulty = summary.rows.some((row) => row.isFaulty);
if (isFaulty && values.keep !== undefined) say(`expected figures without a fault to keep, got some: ${values.keep} is as it was`);
else if (values.keep !== undefined)
  writeFileSync(values.keep, `${JSON.stringify(keptWith(kept, { size, machine, ...summary }), null, 2)}\n`);
const worse = checked === null ? [] : drops(checked, summary, values.only === undefined);
for (const line of worse) say(line);
process.exit(worse.length > 0 || isFaulty ? 1 : 0);
