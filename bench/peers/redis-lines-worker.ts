/** Peer: writes lines in time as one XADD each. Arguments: socket, streams, lines of each, lines per second of each. */
import { connect } from '../../src/redis/connection.ts';

const [, , url = '', streams = '1', lines = '0', rate = '1'] = process.argv;
const redis = connect(url, 'patient');
const text = 'x'.repeat(80);

/** The streams take turns, a phase apart. */
async function write(): Promise<void> {
  const all = Number(streams) * Number(lines);
  const perMs = (Number(streams) * Number(rate)) / 1000;
  const begunAtMs = performance.now();
  const answers: Promise<unknown>[] = [];
  for (let written = 0; written < all; ) {
    const due = Math.floor((performance.now() - begunAtMs) * perMs) + 1;
    for (; written < due && written < all; written += 1) {
      answers.push(redis.xadd(`lines-${written % Number(streams)}`, '*', 'd', `${secondsNow()} ${text}`));
    }
    await new Promise((resolve) => setTimeout(resolve, perMs > 0.1 ? 1 : 1 / perMs));
  }
  await Promise.all(answers);
}

function secondsNow(): string {
  return (Number(process.hrtime.bigint()) / 1e9).toFixed(6);
}

await redis.ping();
process.send?.('ready');
process.once('message', () => {
  void write().then(() => {
    redis.disconnect();
    process.disconnect();
  });
});
