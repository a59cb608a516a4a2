/**
 * BullMQ as the CommonJS package that it is: `import` would have Node parse its 170 files twice, first for the names that they export, which
 * takes each program a tenth of a second at its start.
 */
import { createRequire } from 'node:module';

const bullmq: typeof import('bullmq') = createRequire(import.meta.url)('bullmq');

export const { Queue, UnrecoverableError, Worker } = bullmq;
export type { Job } from 'bullmq';
export type Queue = import('bullmq').Queue;
export type UnrecoverableError = import('bullmq').UnrecoverableError;
export type Worker = import('bullmq').Worker;
