/** The catalogue of errors: each code with its HTTP status and exit code. Nothing else invents either. */
import { InvalidValue } from '../job/invalid-value.ts';

export const CATALOGUE = {
  usage: { status: 400, exit: 2, title: 'Wrong usage' },
  'invalid-value': { status: 422, exit: 2, title: 'Value refused' },
  'name-in-use': { status: 409, exit: 2, title: 'Name in use' },
  'platform-dropped': { status: 409, exit: 2, title: 'Platform dropped' },
  'ambiguous-id': { status: 409, exit: 2, title: 'Ambiguous run' },
  conflict: { status: 409, exit: 2, title: 'Not possible in this state' },
  'too-large': { status: 413, exit: 2, title: 'Too large' },
  'unsupported-media-type': { status: 415, exit: 2, title: 'Unsupported media type' },
  'range-not-satisfiable': { status: 416, exit: 2, title: 'Range not satisfiable' },
  'not-found': { status: 404, exit: 66, title: 'Not found' },
  'no-input': { status: 400, exit: 66, title: 'No such file' },
  unreachable: { status: 502, exit: 69, title: 'Cannot be reached' },
  'redis-unavailable': { status: 503, exit: 69, title: 'Redis is unavailable' },
  'store-unavailable': { status: 503, exit: 69, title: 'Storage is unavailable' },
  'store-full': { status: 507, exit: 69, title: 'Storage is full' },
  unauthorized: { status: 401, exit: 77, title: 'A valid token is needed' },
  forbidden: { status: 403, exit: 77, title: 'Not allowed' },
  'host-refused': { status: 421, exit: 77, title: 'Host not served' },
  'bad-config': { status: 500, exit: 78, title: 'Bad configuration' },
  damaged: { status: 500, exit: 1, title: 'Stored data are damaged' },
  internal: { status: 500, exit: 125, title: 'Fault of builder' },
} as const satisfies Record<string, { status: number; exit: number; title: string }>;

export type ErrorCode = keyof typeof CATALOGUE;

/** An error that a person is told of: a stable code and one line of text. */
export class BuilderError extends Error {
  override name = 'BuilderError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get status(): number {
    return CATALOGUE[this.code].status;
  }

  get exitCode(): number {
    return CATALOGUE[this.code].exit;
  }
}

/** Any thrown value as a BuilderError: an InvalidValue keeps its words, everything unknown is `internal`. */
export function asBuilderError(thrown: unknown): BuilderError {
  if (thrown instanceof BuilderError) return thrown;
  if (thrown instanceof InvalidValue) return new BuilderError('invalid-value', thrown.message, { cause: thrown });
  return new BuilderError('internal', oneLine(thrown), { cause: thrown });
}

/** The message of any thrown value on one line; an AggregateError (a refused connection in Node) tells its first. */
export function oneLine(thrown: unknown): string {
  const inner = thrown instanceof AggregateError && thrown.message === '' ? thrown.errors[0] : thrown;
  const text = inner instanceof Error ? inner.message || inner.name : String(inner);
  return text.replace(/\s*\n\s*/g, ' ');
}
