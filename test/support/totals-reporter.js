/** Jest reporter: closes with one line of totals, in which a file that could not be run counts as failed. */
export default class TotalsReporter {
  onRunComplete(_contexts, results) {
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites + (results.runExecError ? 1 : 0);
    const skipped = results.numPendingTests + results.numTodoTests;
    const totals = [`${results.numPassedTests} passed`, `${failed} failed`];
    if (skipped > 0) totals.push(`${skipped} skipped`);
    // After what the default reporter still has to write.
    process.on('exit', () => process.stdout.write(`${totals.join(', ')}\n`));
  }
}
