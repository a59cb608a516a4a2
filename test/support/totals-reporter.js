import { relative } from 'node:path';

/** Jest reporter: closes with the names of what failed and one line of totals, in which a file that could not be run counts as failed. */
export default class TotalsReporter {
  onRunComplete(_contexts, results) {
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites + (results.runExecError ? 1 : 0);
    const skipped = results.numPendingTests + results.numTodoTests;
    const totals = [`${results.numPassedTests} passed`, `${failed} failed`];
    if (skipped > 0) totals.push(`${skipped} skipped`);
    const lines = [...results.testResults.flatMap(failuresOf), totals.join(', ')];
    // After what the default reporter still has to write.
    process.on('exit', () => process.stdout.write(`${lines.join('\n')}\n`));
  }
}

function failuresOf({ testFilePath, testExecError, testResults }) {
  const file = relative(process.cwd(), testFilePath);
  const names = testResults.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName);
  return [...(testExecError ? ['could not be run'] : []), ...names].map((name) => `failed: ${file}: ${name}`);
}
