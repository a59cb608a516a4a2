/** Faults of an S3 endpoint: what they are called, which pass by themselves, what a person is told. */
import { formatDuration } from '../job/duration.ts';
import { limits } from '../job/limits.ts';
import { BuilderError, type ErrorCode, oneLine } from '../service/errors.ts';

/** An answer that the client would not let us see: it reports these without their code and leaves the body unread. */
export class S3Refusal extends Error {
  override name = 'S3Refusal';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string) {
    super(`HTTP ${status}${code === '' ? '' : ` ${code}`}`);
    this.status = status;
    this.code = code;
  }
}

const MISSING = new Set(['NoSuchKey', 'NotFound', 'ENOENT']);
const DENIED = new Set([
  'AccessDenied',
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidToken',
  'ExpiredToken',
  'AllAccessDisabled',
]);
const SKEWED = 'RequestTimeTooSkewed';
const FULL = /StorageFull|QuotaExceeded|InsufficientStorage|InsufficientCapacity|DiskFull/i;
const PASSING = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'SlowDown',
  'InternalError',
  'ServiceUnavailable',
  'RequestTimeout',
  'OperationAborted',
  'IncompleteBody',
]);

/** The code of a fault: S3's, or the system's; empty where there is none. The client throws errors and plain objects alike. */
export function faultCode(thrown: unknown): string {
  if (thrown instanceof BuilderError) return faultCode(thrown.cause);
  if (thrown instanceof AggregateError && !('code' in thrown)) return faultCode(thrown.errors[0]);
  if (typeof thrown !== 'object' || thrown === null) return '';
  if ('code' in thrown && thrown.code !== undefined) return String(thrown.code);
  return 'Code' in thrown ? String(thrown.Code) : '';
}

/** True where the same request may well succeed a moment later. */
export function isPassing(thrown: unknown): boolean {
  if (isFull(thrown)) return false;
  const code = faultCode(thrown);
  return thrown instanceof S3Refusal || PASSING.has(code) || code.startsWith('HPE_');
}

/** The fault as one line for people, without secrets: `store` names bucket and endpoint, whose clock is `aheadMs` ahead of ours. */
export function asStoreFault(thrown: unknown, store: string, aheadMs = 0): BuilderError {
  if (thrown instanceof BuilderError) return thrown;
  const code = faultCode(thrown);
  const fault = (kind: ErrorCode, expected: string): BuilderError =>
    new BuilderError(kind, `expected ${expected}, got ${describe(thrown, code)}`, { cause: thrown });
  if (MISSING.has(code)) return fault('not-found', `a known object in the store ${store}`);
  if (code === 'InvalidRange') return fault('range-not-satisfiable', 'a range within the blob');
  if (isFull(thrown)) return fault('store-full', `room in the store ${store}`);
  // An answer to HEAD has no body, so no code: the store's own time tells this refusal from one of the keys.
  if (code === SKEWED || (DENIED.has(code) && Math.abs(aheadMs) > limits.s3SkewMsMax)) {
    const apart = `${formatDuration(Math.round(Math.abs(aheadMs) / 1000) * 1000)} ${aheadMs < 0 ? 'ahead of' : 'behind'} it`;
    return fault('store-unavailable', `the clock of this machine to be that of the store ${store}, not ${apart}`);
  }
  if (DENIED.has(code)) {
    return fault('store-unavailable', `the store ${store} to accept BUILDER_S3_ACCESS_KEY and BUILDER_S3_SECRET_KEY`);
  }
  return fault('store-unavailable', `the store ${store} (BUILDER_S3_ENDPOINT) to answer`);
}

function isFull(thrown: unknown): boolean {
  return (thrown instanceof S3Refusal && thrown.status === 507) || FULL.test(faultCode(thrown));
}

function describe(thrown: unknown, code: string): string {
  const text = typeof thrown === 'object' && thrown !== null && 'Message' in thrown ? String(thrown.Message) : oneLine(thrown);
  return (text.includes(code) ? text : `${code}: ${text}`).slice(0, 500) || 'an unknown fault';
}
