/** Native ESM: the tests import the TypeScript sources, which swc strips; end-to-end tests run bin/builder on dist. */
export default {
  roots: ['<rootDir>/test'],
  testMatch: ['**/*.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2023', parser: { syntax: 'typescript' } }, module: { type: 'es6' } }],
  },
  cacheDirectory: '<rootDir>/node_modules/.cache/jest',
  testEnvironment: 'node',
  reporters: ['default', '<rootDir>/test/support/totals-reporter.js'],
  testTimeout: 60_000,
  maxWorkers: 2,
};
