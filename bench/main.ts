/**
 * `make bench`, `make bench-full`, `make bench-check`: measures the figures of bench/README.md, prints one table and writes it as JSON.
 *
 *   node dist/bench/main.js [--full] [--only NAME]… [--out FILE] [--check FILE] [--keep FILE]
 *
 * `--check` fails where a ratio is worse than all that the file has of it; `--keep` writes the ratios as that file. Exit code 1 for a
 * figure that is void or got worse, 0 otherwise: a goal that is not met is told in the table.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Size } from './figure.ts';
import { figures } from './figures.ts';
import { describeMachine } from './machine.ts';
import { drops, type Kept, keptOf } from './regression.ts';
import { tableOf } from './report.ts';
import { measureFigure } from './rounds.ts';
import { type Summary, summarize } from './summary.ts';
import { flagsOf } from './support/flags.ts';

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
if (values.keep !== undefined) writeFileSync(values.keep, `${JSON.stringify(keptOf(summary), null, 2)}\n`);
const worse = values.check === undefined ? [] : drops(JSON.parse(readFileSync(values.check, 'utf8')) as Kept, summary);
for (const line of worse) say(line);
const voided = summary.rows.some(({ remarks }) => remarks.some((remark) => remark.includes('void')));
process.exit(worse.length > 0 || voided ? 1 : 0);
