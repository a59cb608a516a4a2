/** `builder --help`, of which only the list of commands is loaded: it is there as fast as Node starts. */
import { helpText } from './catalogue.ts';

// A reader that has seen enough (`| head`) ends the program quietly.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 125));
process.stdout.write(helpText());
