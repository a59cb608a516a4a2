/** The sandbox `none`: a session of its own, and a parent that every orphan of the run comes to, so that none is overlooked. */
import { BuilderError } from '../../src/service/errors.ts';
import { startUnderInit } from './init-run.ts';
import { endMarked } from './marked-processes.ts';
import type { Launch, Sandbox, StartedScript } from './sandbox.ts';
import type { Slots } from './slots.ts';

export function noSandbox(slots: Slots): Sandbox {
  return { name: 'none', start: (launch) => start(slots, launch) };
}

async function start(slots: Slots, launch: Launch): Promise<StartedScript> {
  if (launch.network === 'none')
    throw new BuilderError('bad-config', 'expected the sandbox bwrap or unshare for a run without network, got none');
  const started = await startUnderInit(slots, { sandbox: 'none', words: [], isSealed: true }, launch);
  return {
    ...started,
    finish: async (kill) => {
      try {
        return await started.finish(kill);
      } catch (cause) {
        // The script can end its own init here; then the mark tells what is left.
        await endMarked(launch.mark);
        throw cause;
      }
    },
  };
}
