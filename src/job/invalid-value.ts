/** A value that a person or a program gave and that builder refuses. */

/** Thrown by the pure core; the message says what was expected and what came, on one line. */
export class InvalidValue extends Error {
  override name = 'InvalidValue';
}
