/** Program 2: the producer's command line. */
import { oneLine } from '../service/errors.ts';
import { runCommandLine } from './dispatch.ts';
import { processIo } from './io.ts';

const FAULT_EXIT = 125;

// A reader that has seen enough (`| head`) ends the program quietly; its run goes on.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`builder: stdout cannot be written: ${oneLine(error)}\n`);
  process.exit(FAULT_EXIT);
});
process.stderr.on('error', () => undefined);

// A token given as a flag is not for everybody who may look at the list of processes.
process.title = 'builder';
// Should ever nothing be left to wait for before there is an answer, that is no success.
process.exitCode = FAULT_EXIT;
const code = await runCommandLine(process.argv.slice(2), processIo());
await new Promise((resolve) => process.stdout.write('', resolve));
process.exit(code);
