/** Recognising a Redis that came back without what it had, or without the last of it. */
import type { Seen } from './look.ts';
import type { Queues } from './queues.ts';

/** Beats that a server remembers: minutes, where what a crash of Redis's host loses is two seconds. */
const REMEMBERED = 300;

const LOST_ALL =
  'Redis came back without its data: jobs, schedules, templates, tokens, waiting runs and records are lost; what runs goes on and is recorded; history stays in the store';
const LOST_SOME =
  'Redis came back older than it was: what was accepted or changed in its last moments is lost, and a run that ended in them runs again; what runs goes on';

/** Tells in the log, once per loss, that Redis is another one or an older one than before; to be given what each look has seen. */
export function createIdentityCheck(queues: Queues): (seen: Pick<Seen, 'id' | 'beats'>) => void {
  let known: string | null = null;
  let beats: { number: number; atMs: number }[] = [];
  return ({ id, beats: number }) => {
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
