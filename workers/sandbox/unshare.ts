/** The sandbox `unshare`: a PID namespace with a /proc of its own; everything of a run dies with its PID 1. */
import { INIT_WORDS, startUnderInit } from './init-run.ts';
import type { Launch, Sandbox } from './sandbox.ts';
import type { Slots } from './slots.ts';

export function unshareSandbox(program: string, slots: Slots): Sandbox {
  return {
    name: 'unshare',
    start: async (launch) => {
      const words = [program, ...unshareArgs(launch), ...INIT_WORDS];
      return startUnderInit(slots, { sandbox: 'unshare', words, isSealed: false }, launch);
    },
  };
}

/** The script may trace PID 1: it is root, in its user namespace at least. */
function unshareArgs(launch: Launch): string[] {
  const args = ['--pid', '--fork', '--kill-child', '--mount-proc'];
  // Without root only a user namespace may make the others; the script is root in it alone.
  if (process.getuid?.() !== 0) args.push('--user', '--map-root-user');
  if (launch.network === 'none') args.push('--net');
  return [...args, '--'];
}
