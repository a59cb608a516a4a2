/** The sandbox `none`: a session of its own, and a parent that every orphan of the run comes to, so that none is overlooked. */
import { BuilderError } from '../../src/service/errors.ts';
import { startUnderInit } from './init-run.ts';
import type { Launcher } from './launcher.ts';
import { endMarked } from './marked-processes.ts';
import type { Launch, Sandbox, StartedScript } from './sandbox.ts';

export function noSandbox(launcher: Launcher): Sandbox {
  return { name: 'none', start: (launch) => start(launcher, launch) };
}

async function start(launcher: Launcher, launch: Launch): Promise<StartedScript> {
  if (launch.network === 'none')
    throw new BuilderError('bad-config', 'expected the sandbox bwrap or unshare for a run without network, got none');
  const started = await startUnderInit(launcher, null, launch);
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
