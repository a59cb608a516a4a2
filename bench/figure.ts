/** The words of a measurement: a figure is measured of several contenders in turn, round by round. */

/** `limit`: the bare operation, which nothing can beat; `peer`: another system that does the same work. */
export type Kind = 'builder' | 'limit' | 'peer';

export interface Contender {
  name: string;
  kind: Kind;
  /** What a reader has to know of it: sandbox, store, sync policy, clients, batch. */
  setting: string;
  /** Throws Missing where this machine does not have what it needs. */
  open(): Promise<Opened>;
}

export interface Opened {
  /** One round, and the check of its result: throws Void where that is not what it must be, as `close` does. */
  measure(): Promise<Values>;
  close(): Promise<void>;
}

/** By statistic, such as `p99`. */
export type Values = Record<string, number>;

export interface Statistic {
  name: string;
  unit: string;
  better: 'more' | 'less';
}

/** What builder has to reach of one statistic, beside the best of the contenders named here. */
export interface Goal {
  statistic: string;
  contender: string;
  against: string[];
  /** builder's value as a multiple of theirs: at least for `more`, at most for `less`. */
  ratio: number;
  /** Taken from builder's value first, in its unit: what the figure allows beside the ratio. */
  allowance?: number;
}

export interface Figure {
  name: string;
  title: string;
  statistics: Statistic[];
  goals: Goal[];
  contenders: Contender[];
  rounds: number;
}

export type Size = 'short' | 'full';

/** What it needs is not on this machine; the message says what, and where it comes from. */
export class Missing extends Error {}

/** The measured round did not do what it should have done. */
export class Void extends Error {}
