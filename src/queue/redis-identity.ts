/** Recognising a Redis that came back without what it had, or without the last of it. */
import { randomUUID } from 'node:crypto';
import { keys } from '../redis/keys.ts';
import { runScript, script } from '../redis/script.ts';
import type { Queues } from './queues.ts';

/** Beats that a server remembers: minutes, where what a crash of Redis's host loses is two seconds. */
const REMEMBERED = 300;

/** KEYS identity. ARGV an id, should there be none → {id, how often servers have looked} */
const lookScript = script(`
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
return {redis.call('HGET', KEYS[1], 'id'), redis.call('HINCRBY', KEYS[1], 'beats', 1)}
`);

const LOST_ALL =
  'Redis came back without its data: jobs, schedules, templates, tokens, waiting runs and records are lost; what runs goes on and is recorded; history stays in the store';
const LOST_SOME =
  'Redis came back older than it was: what was accepted or changed in its last moments is lost, and a run that ended in them runs again; what runs goes on';

/** Tells in the log, once per loss, that Redis is another one or an older one than before; each call looks once. */
export function createIdentityCheck(queues: Queues): () => Promise<void> {
  let known: string | null = null;
  let beats: { number: number; atMs: number }[] = [];
  return async () => {
    const [id, number] = (await runScript(queues.redis, lookScript, [keys.identity], [randomUUID()])) as [string, number];
    const last = beats.at(-1);
    if (known !== null && id !== known) {
      queues.logger.error(LOST_ALL);
      beats = [];
    } else if (last !== undefined && number <= last.number) {
      const kept = beats.filter((beat) => beat.number < number);
      const lostMsMax = Math.round(last.atMs - (kept.at(-1)?.atMs ?? beats[0]?.atMs ?? last.atMs));
      queues.logger.error({ lostMsMax }, LOST_SOME);
      beats = kept;
    }
    known = id;
    beats = [...beats, { number, atMs: performance.now() }].slice(-REMEMBERED);
  };
}
